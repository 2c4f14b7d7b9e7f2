"""extend and expired: a holder keeps its task, and an expired lease is found."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, encoded, load, task
from transitions import FENCE, LEASE_MS, NOW, SCORE, SINCE, TOKEN, active, fetched

from nbqueue.broker.commands import lifecycle, maintenance
from nbqueue.broker.commands.maintenance import Expired

LATER_MS = LEASE_MS + 10_000
LATER = 2_000_000_040.123


def test_only_leases_that_the_caller_holds_are_extended(broker: Any, redis: Any) -> None:
    other = active("c", {"nbq:lease": f"other|{SINCE}"})
    given = {
        **fetched(active("a"), active("b"), other),
        "pending": ["p"],
        "t:p": task("p", "pending", {"pending_since": 1}),
    }
    load(redis, given)
    held = [("a", FENCE), ("c", FENCE), ("missing", FENCE), ("p", FENCE), ("b", FENCE)]
    assert broker.run(lifecycle.extend("q", held, LATER_MS)) == [1, 2, 3]
    assert dump(redis) == {**given, "lease": Zset(a=LATER, b=LATER, c=SCORE)}
    assert broker.run(lifecycle.extend("q", held, LATER_MS)) == [1, 2, 3]
    assert dump(redis)["lease"] == Zset(a=LATER, b=LATER, c=SCORE)


def test_an_expired_lease_that_nobody_recovered_can_still_be_extended(
    broker: Any, redis: Any
) -> None:
    load(redis, {**fetched(active("a")), "lease": Zset(a=NOW - 1.5)})
    assert broker.run(lifecycle.extend("q", [("a", FENCE)], LEASE_MS)) == []
    assert broker.run(maintenance.expired("q", NOW_MS)) == []


@pytest.mark.parametrize(
    ("score", "now_ms", "is_found"),
    [
        (SCORE, LEASE_MS - 1, False),
        (SCORE, LEASE_MS, True),
        (SCORE, LEASE_MS + 1, True),
        (NOW, NOW_MS, False),  # a program in Go: it has half a minute more
        (NOW - 29, NOW_MS, False),
        (NOW - 30, NOW_MS, True),
    ],
)
def test_expired_finds_our_leases_at_once_and_those_of_go_after_their_grace(
    broker: Any, redis: Any, score: float, now_ms: int, is_found: bool
) -> None:
    given = {**fetched(active("a")), "lease": Zset(a=score)}
    load(redis, given)
    found = broker.run(maintenance.expired("q", now_ms))
    assert [each.task_id for each in found] == (["a"] if is_found else [])
    assert dump(redis) == given


def test_expired_says_what_its_finder_needs(broker: Any, redis: Any) -> None:
    mine = active("a", {"nbq:attempt": 4, "nbq:lost": 2, "nbq:begun": 4, "nbq:unbegun": 1})
    theirs = task("g", "active")
    load(redis, {**fetched(mine, theirs), "lease": Zset(a=SCORE, g=NOW)})
    found = broker.run(maintenance.expired("q", LEASE_MS + 60_000))
    score = redis.zscore("asynq:{q}:lease", "a")
    assert found == [
        Expired("g", str(NOW), encoded("g"), "", 1, 0),
        Expired("a", found[1].score, encoded("a"), f"{TOKEN}|{SINCE}", 4, 2, True, 1),
    ]
    assert float(found[1].score) == score


def test_at_most_so_many_are_looked_at(broker: Any, redis: Any) -> None:
    load(redis, fetched(*(active(f"a{i}") for i in range(5))))
    assert len(broker.run(maintenance.expired("q", LEASE_MS, limit=2))) == 2


@pytest.mark.usefixtures("odd_store")
def test_expired_drops_leases_of_what_can_never_run(broker: Any, redis: Any) -> None:
    load(
        redis,
        {
            **fetched(active("a")),
            "active": ["gone", "rest", "a"],
            "lease": Zset(a=SCORE, gone=1.5, rest=1.5, done=1.5, odd=1.5),
            "t:rest": {"state": "active"},  # Asynq's dequeue of an id without a task leaves this
            "t:done": task("done", "completed"),
            "completed": Zset(done=NOW),
            "t:odd": "text",
        },
    )
    assert broker.run(maintenance.expired("q", NOW_MS)) == []
    assert dump(redis) == {
        **fetched(active("a")),
        "t:done": task("done", "completed"),
        "completed": Zset(done=NOW),
        "t:odd": "text",
    }


def test_a_worker_finds_what_was_fetched_in_its_name_and_nothing_else(
    broker: Any, redis: Any
) -> None:
    worker_id = "host:1:ab"
    given = {
        **fetched(
            active("a", {"nbq:attempt": 2, "nbq:lost": 1, "nbq:begun": 2, "nbq:unbegun": 3}),
            active("b", {"nbq:lease": f"host:1:abc:1:1|{SINCE}"}),  # another, of a longer name
            active("c", {"nbq:lease": None}),
            active("d", {"nbq:lease": f"{TOKEN}|"}),
        ),
        "pending": ["p"],
        "t:p": task("p", "pending", {"pending_since": 1, "nbq:lease": f"{TOKEN}|1"}),
    }
    load(redis, given)
    found = broker.run(maintenance.held_by_worker("q", worker_id))
    assert sorted(tuple(each) for each in found) == [
        ("a", encoded("a"), TOKEN, 2, 1, True, 3),
        ("d", encoded("d"), TOKEN, 1, 0, False, 0),
    ]
    assert dump(redis) == given
