"""forward: tasks that are due become pending; delete_expired: tasks whose retention is over go."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, load, task
from transitions import NOW, events

from nbqueue.broker.commands import maintenance
from nbqueue.broker.commands.maintenance import Forwarded

NS = {"pending_since": NOW_MS * 1_000_000}


def waiting(task_id: str, due_ms: int | None, state: str = "scheduled", **more: Any) -> Any:
    own = {} if due_ms is None else {"nbq:due": due_ms}
    return task(task_id, state, {**own, **more})


def one(score: int, due_ms: int | None, state: str = "scheduled") -> dict[str, Any]:
    return {state: Zset(a=score), "t:a": waiting("a", due_ms, state)}


MS = NOW * 1000


@pytest.mark.parametrize("state", ["scheduled", "retry"])
@pytest.mark.parametrize(
    ("score", "due_ms", "is_due", "next_look"),
    [
        (NOW, MS, True, None),
        (NOW - 500, MS - 500_000, True, None),
        (NOW + 1, NOW_MS, True, None),  # due at this very millisecond
        (NOW + 1, NOW_MS - 1, True, None),
        (NOW + 1, NOW_MS + 1, False, NOW_MS + 1),
        (NOW + 1, MS + 1_000, False, MS + 1_000),
        # A program in Go cut the fraction of the second off.
        (NOW + 1, None, False, MS + 2_000),
        (NOW, None, False, MS + 1_000),
        (NOW - 1, None, True, None),
        (NOW + 1, MS - 60_000, False, MS + 2_000),  # moved by Go since: the old time is stale
        (NOW, MS + 60_000, False, MS + 1_000),
        (NOW - 1, MS + 60_000, True, None),
        (NOW + 9, MS + 8_500, False, MS + 8_001),  # in a later second: look when that begins
    ],
)
def test_a_task_moves_at_its_exact_time(
    broker: Any,
    redis: Any,
    state: str,
    score: int,
    due_ms: int | None,
    is_due: bool,
    next_look: int | None,
) -> None:
    given = one(score, due_ms, state)
    load(redis, given)
    assert broker.run(maintenance.forward("q", NOW_MS)) == Forwarded(int(is_due), next_look)
    moved = waiting("a", due_ms, "pending", **NS)
    then = {"pending": ["a"], "t:a": moved, **events(("forwarded", "a"))}
    assert dump(redis) == (then if is_due else given)


def test_those_due_go_behind_those_pending_in_order_of_their_times(broker: Any, redis: Any) -> None:
    load(
        redis,
        {
            "pending": ["p"],
            "t:p": task("p", "pending", {"pending_since": 1}),
            "scheduled": Zset(b=NOW - 2, a=NOW - 1, c=NOW + 60),
            "retry": Zset(r=NOW - 9),
            **{f"t:{i}": waiting(i, None) for i in "abc"},
            "t:r": waiting("r", None, "retry"),
        },
    )
    assert broker.run(maintenance.forward("q", NOW_MS)) == Forwarded(3, MS + 59_001)
    content = dump(redis)
    assert content["pending"][::-1] == ["p", "b", "a", "r"]
    assert content["scheduled"] == Zset(c=NOW + 60)
    assert "retry" not in content
    assert broker.run(maintenance.forward("q", NOW_MS)) == Forwarded(0, MS + 59_001)


def test_no_task_of_a_second_is_late_because_another_is_looked_at_first(
    broker: Any, redis: Any
) -> None:
    load(
        redis,
        {
            "scheduled": Zset(a=NOW + 3, b=NOW + 3),
            "t:a": waiting("a", MS + 2_900),
            "t:b": waiting("b", MS + 2_100),
        },
    )
    now_ms, seen = NOW_MS, []
    while len(seen) < 2:
        moved, look = broker.run(maintenance.forward("q", now_ms))
        seen += [now_ms] * moved
        now_ms = look or now_ms
    assert seen == [MS + 2_100, MS + 2_900]


def test_a_limit_is_kept_and_it_is_said_that_there_is_more(broker: Any, redis: Any) -> None:
    ids = [f"a{i}" for i in range(5)]
    load(
        redis,
        {
            "scheduled": Zset(dict.fromkeys(ids, NOW - 1)),
            **{f"t:{i}": waiting(i, None) for i in ids},
        },
    )
    assert broker.run(maintenance.forward("q", NOW_MS, limit=3)) == Forwarded(3, NOW_MS)
    assert broker.run(maintenance.forward("q", NOW_MS, limit=3)) == Forwarded(2, None)


def test_a_task_of_an_aggregation_group_goes_there_and_the_group_is_known(
    broker: Any, redis: Any
) -> None:
    load(redis, {"scheduled": Zset(a=NOW - 1), "t:a": waiting("a", None, group="g")})
    assert broker.run(maintenance.forward("q", NOW_MS)) == Forwarded(1, None)
    assert dump(redis) == {
        "g:g": Zset(a=NOW),
        "groups": {"g"},
        "t:a": waiting("a", None, "aggregating", group="g", **{"nbq:added": NOW_MS}),
        **events(("aggregating", "a")),
    }


def test_a_task_that_was_taken_out_of_its_group_does_not_go_back_when_it_is_retried(
    broker: Any, redis: Any
) -> None:
    load(redis, {"retry": Zset(a=NOW - 1), "t:a": waiting("a", None, "retry", group="g")})
    assert broker.run(maintenance.forward("q", NOW_MS)) == Forwarded(1, None)
    assert dump(redis) == {
        "pending": ["a"],
        "t:a": waiting("a", None, "pending", group="g", **NS),
        **events(("forwarded", "a")),
    }


@pytest.mark.usefixtures("odd_store")
def test_ids_that_are_no_tasks_are_dropped(broker: Any, redis: Any) -> None:
    load(
        redis,
        {
            "scheduled": Zset(gone=NOW - 1, text=NOW - 1, a=NOW - 1),
            "retry": Zset(a=NOW - 1),
            "t:text": "text",
            "t:a": waiting("a", None),
        },
    )
    assert broker.run(maintenance.forward("q", NOW_MS)) == Forwarded(1, None)
    assert dump(redis) == {
        "pending": ["a"],
        "t:a": waiting("a", None, "pending", **NS),
        "t:text": "text",
        **events(("forwarded", "a")),
    }


def completed(scores: dict[str, int]) -> dict[str, Any]:
    return {"completed": Zset(scores), **{f"t:{i}": task(i, "completed") for i in scores}}


def test_what_was_kept_long_enough_is_deleted(broker: Any, redis: Any) -> None:
    load(redis, completed({"a": NOW - 9, "b": NOW, "c": NOW + 1}))
    assert broker.run(maintenance.delete_expired("q", NOW_MS)) == 2
    then = {**completed({"c": NOW + 1}), **events(("expired", "a b"))}
    assert dump(redis) == then
    assert broker.run(maintenance.delete_expired("q", NOW_MS)) == 0
    assert dump(redis) == then


def test_the_caller_repeats_until_nothing_is_left(broker: Any, redis: Any) -> None:
    load(redis, completed({f"a{i}": NOW for i in range(5)}))
    found = [broker.run(maintenance.delete_expired("q", NOW_MS, limit=2)) for _ in range(4)]
    assert found == [2, 2, 1, 0]
    assert dump(redis, without=("own:events",)) == {}


@pytest.mark.usefixtures("odd_store")
def test_a_task_that_runs_again_is_not_deleted(broker: Any, redis: Any) -> None:
    pending = {"pending": ["a"], "t:a": task("a", "pending", {"pending_since": 1})}
    load(redis, {**pending, "completed": Zset(a=NOW, gone=NOW)})
    assert broker.run(maintenance.delete_expired("q", NOW_MS)) == 2
    assert dump(redis) == pending
