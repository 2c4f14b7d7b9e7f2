"""upcoming: when a queue needs maintenance next."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, load, task

from nbqueue.broker.next_due import NextDue, remaining, upcoming

NOW = NOW_MS // 1000
NOTHING = NextDue(None, None, None, None, False, False, False)


def test_nothing_is_to_come_in_an_empty_queue(broker: Any, redis: Any) -> None:
    assert broker.run(upcoming("q")) == NOTHING
    assert dump(redis) == {}


@pytest.mark.parametrize(
    ("key", "value", "changes"),
    [
        ("scheduled", Zset(a=NOW + 9, b=NOW + 5), {"due_ms": (NOW + 4) * 1000 + 1}),
        ("retry", Zset(a=NOW + 7), {"due_ms": (NOW + 6) * 1000 + 1}),
        ("lease", Zset(a=NOW + 1.25), {"lease_ms": NOW * 1000 + 1250, "orphans": True}),
        ("active", ["a"], {"orphans": True}),
        ("completed", Zset(a=NOW + 60, b=NOW + 70), {"over_ms": (NOW + 60) * 1000}),
        ("own:waiting", Zset(x=NOW_MS + 7), {"waiting_ms": NOW_MS + 7}),
        ("own:schedules", {"a": "x"}, {"schedules": True}),
        ("aggregation_sets", Zset(x=NOW), {"sets": True}),
    ],
)
def test_what_lies_first_says_when(
    broker: Any, redis: Any, odd_store: None, key: str, value: Any, changes: dict[str, Any]
) -> None:
    load(redis, {key: value})
    before = dump(redis)
    assert broker.run(upcoming("q")) == NOTHING._replace(**changes)
    assert dump(redis) == before


@pytest.mark.parametrize(("score", "due_ms"), [("-inf", 0), ("inf", None)])
def test_scores_without_an_end_are_now_or_never(
    broker: Any, redis: Any, odd_store: None, score: str, due_ms: int | None
) -> None:
    redis.zadd("asynq:{q}:scheduled", {"a": score})
    assert broker.run(upcoming("q")) == NOTHING._replace(due_ms=due_ms)


def test_of_scheduled_and_retried_tasks_the_first_counts(
    broker: Any, redis: Any, odd_store: None
) -> None:
    load(redis, {"scheduled": Zset(a=NOW + 9), "retry": Zset(b=NOW + 3)})
    assert broker.run(upcoming("q")).due_ms == (NOW + 2) * 1000 + 1


def test_as_many_leases_as_active_tasks_are_in_order(
    broker: Any, redis: Any, odd_store: None
) -> None:
    load(redis, {"active": ["a", "b"], "lease": Zset(a=NOW + 1.5, b=NOW + 2.5)})
    assert broker.run(upcoming("q")) == NOTHING._replace(lease_ms=NOW * 1000 + 1500)


def test_a_key_that_holds_something_else_is_looked_at_at_once(
    broker: Any, redis: Any, odd_store: None
) -> None:
    names = ("scheduled", "lease", "active", "completed", "own:waiting")
    load(redis, {name: {"odd": "thing"} for name in names})
    assert broker.run(upcoming("q")) == NOTHING._replace(
        due_ms=0, lease_ms=0, over_ms=0, waiting_ms=0, orphans=True
    )


UNTIL_MS = NOW * 1000 + 250
"""Within the second after `NOW`."""


@pytest.mark.parametrize("state", ["scheduled", "retry"])
@pytest.mark.parametrize(
    ("score", "due_ms", "remains"),
    [
        (NOW, UNTIL_MS - 300, True),
        (NOW + 1, UNTIL_MS, True),
        (NOW + 1, UNTIL_MS + 1, False),
        (NOW + 1, None, False),  # a program in Go knows whole seconds only
        (NOW + 1, UNTIL_MS - 60_000, False),  # moved by Go since: the old time is stale
        (NOW + 2, NOW * 1000 + 1001, False),
    ],
)
def test_a_task_remains_by_its_exact_time(
    broker: Any, redis: Any, state: str, score: int, due_ms: int | None, remains: bool
) -> None:
    own = {} if due_ms is None else {"nbq:due": due_ms}
    load(redis, {state: Zset(a=score), "t:a": task("a", state, own)})
    before = dump(redis)
    assert broker.run(remaining("q", UNTIL_MS)) is remains
    assert dump(redis) == before


@pytest.mark.parametrize(
    ("given", "remains"),
    [
        ({}, False),
        ({"pending": ["a"]}, True),
        ({"pending": ["a"], "retry": Zset(b=NOW), "paused": "1"}, False),
        ({"active": ["a"], "archived": Zset(b=NOW), "completed": Zset(c=NOW)}, False),
        ({"own:waiting": Zset({"limit:x": UNTIL_MS})}, True),
        ({"own:waiting": Zset({"limit:x": UNTIL_MS + 1})}, False),
        # Too many to look at each: they may be due.
        ({"scheduled": Zset({f"t{n}": NOW + 1 for n in range(500)})}, True),
    ],
)
def test_what_is_pending_or_parked_until_then_remains(
    broker: Any, redis: Any, odd_store: None, given: dict[str, Any], remains: bool
) -> None:
    load(redis, given)
    assert broker.run(remaining("q", UNTIL_MS)) is remains
