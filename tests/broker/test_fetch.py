"""fetch: a worker takes the oldest pending tasks, with a lease."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, encoded, load, task
from transitions import LEASE_MS, SCORE, SINCE, TOKEN, active, events, fetched

from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.lifecycle import Fetched


def pending(task_id: str, more: dict[str, Any] | None = None, **fields: Any) -> Any:
    return task(task_id, "pending", {"pending_since": SINCE, **(more or {})}, **fields)


def line(*ids: str) -> dict[str, Any]:
    """Set the pending tasks, oldest first."""
    return {"pending": list(ids[::-1]), **{f"t:{i}": pending(i) for i in ids}}


def taken(task_id: str, attempt: int = 1, lost: int = 0) -> Fetched:
    return Fetched(task_id, encoded(task_id), SINCE, attempt, lost)


CASES: dict[str, Any] = {
    "nothing of nothing": ({}, 5, [], {}),
    "all there is": (
        line("a", "b"),
        5,
        [taken("a"), taken("b")],
        {**fetched(active("a"), active("b")), **events(("started", "a b"))},
    ),
    "no more than asked for, the oldest first": (
        line("a", "b", "c"),
        2,
        [taken("a"), taken("b")],
        {**line("c"), **fetched(active("a"), active("b")), **events(("started", "a b"))},
    ),
    "a further attempt of one that was lost once": (
        {"pending": ["a"], "t:a": pending("a", {"nbq:attempt": 2, "nbq:lost": 1})},
        1,
        [taken("a", 3, 1)],
        {
            **fetched(active("a", {"nbq:attempt": 3, "nbq:lost": 1})),
            **events(("started", "a")),
        },
    ),
    "one without a time of waiting, as Asynq's run-one leaves it": (
        {"pending": ["a"], "t:a": task("a", "pending")},
        1,
        [Fetched("a", encoded("a"), None, 1, 0)],
        {
            **fetched(active("a", {"nbq:lease": f"{TOKEN}|"})),
            **events(("started", "a")),
        },
    ),
    "a stale token of an earlier run is overwritten": (
        {"pending": ["a"], "t:a": pending("a", {"nbq:lease": "other|1", "nbq:attempt": 1})},
        1,
        [taken("a", 2)],
        {**fetched(active("a", {"nbq:attempt": 2})), **events(("started", "a"))},
    ),
    "from a paused queue nothing": (
        {**line("a"), "paused": "1999999999"},
        1,
        None,
        {**line("a"), "paused": "1999999999"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_fetch(broker: Any, redis: Any, name: str) -> None:
    given, limit, reply, then = CASES[name]
    load(redis, given)
    assert broker.run(lifecycle.fetch("q", limit, NOW_MS, LEASE_MS, TOKEN)) == reply
    assert dump(redis) == then


ODD: dict[str, Any] = {
    "an id without a task is dropped": ({"pending": ["x", "a"], "t:a": pending("a")}, {}),
    "an id twice is one task": ({"pending": ["a", "a"], "t:a": pending("a")}, {}),
    "a task that is not pending is dropped from the line, and stays where it is": (
        {
            "pending": ["a", "x"],
            "t:a": pending("a"),
            "t:x": task("x", "completed"),
            "completed": Zset({"x": 2_000_000_100}),
        },
        {"t:x": task("x", "completed"), "completed": Zset({"x": 2_000_000_100})},
    ),
    "what is left of a task without its message is dropped from the line": (
        {"pending": ["x", "a"], "t:a": pending("a"), "t:x": {"state": "pending"}},
        {"t:x": {"state": "pending"}},
    ),
    "a key that is no task is dropped from the line": (
        {"pending": ["x", "a"], "t:a": pending("a"), "t:x": "text"},
        {"t:x": "text"},
    ),
}


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize("name", ODD)
def test_fetch_from_an_odd_line(broker: Any, redis: Any, name: str) -> None:
    given, left = ODD[name]
    load(redis, given)
    assert broker.run(lifecycle.fetch("q", 9, NOW_MS, LEASE_MS, TOKEN)) == [taken("a")]
    assert dump(redis) == {**left, **fetched(active("a")), **events(("started", "a"))}


def test_a_whole_second_never_is_the_end_of_our_lease(broker: Any, redis: Any) -> None:
    load(redis, line("a"))
    broker.run(lifecycle.fetch("q", 1, NOW_MS, 2_000_000_030_000, TOKEN))
    assert redis.zscore("asynq:{q}:lease", "a") == 2_000_000_030.001


def test_two_workers_never_get_the_same_task(broker: Any, redis: Any) -> None:
    load(redis, line("a", "b", "c"))
    first = broker.run(lifecycle.fetch("q", 2, NOW_MS, LEASE_MS, TOKEN))
    second = broker.run(lifecycle.fetch("q", 2, NOW_MS, LEASE_MS, "other"))
    assert [each.msg for each in first + second] == [encoded("a"), encoded("b"), encoded("c")]
    content = dump(redis)
    assert content["t:c"]["nbq:lease"] == f"other|{SINCE}"
    assert content["lease"] == Zset(a=SCORE, b=SCORE, c=SCORE)
