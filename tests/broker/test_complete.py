"""complete: tasks that succeeded are kept with their results, or deleted."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, load, task
from transitions import (
    NOW,
    SINCE,
    TOKEN,
    WHO,
    active,
    attempt,
    attempts,
    counted,
    ended,
    events,
    fetched,
    kept,
)

from nbqueue.broker.commands import lifecycle

LOCK = "unique:t:83878c91171338902e0fe0fb97a8c47a"  # MD5 of the payload, b"p"
OWN = {"nbq:lease": f"{TOKEN}|{SINCE}", "nbq:attempt": 1}


def completed(task_id: str, result: bytes = b"r", **more: Any) -> Any:
    fields = {**OWN, "result": result, **more}
    return task(task_id, "completed", fields, retention=60, completed_at=NOW)


CASES: dict[str, Any] = {
    "one without retention is deleted": (
        fetched(active("a")),
        [ended("a")],
        [],
        {
            **counted(1),
            **events(("completed", "a")),
            **attempts(attempt("a", "completed")),
        },
    ),
    "one with retention is kept with its result": (
        fetched(active("a", retention=60)),
        [kept("a")],
        [],
        {
            "completed": Zset(a=NOW + 60),
            "t:a": completed("a"),
            **counted(1),
            **events(("completed", "a")),
            **attempts(attempt("a", "completed")),
        },
    ),
    "several of both kinds, among others that go on": (
        fetched(active("a"), active("b", retention=60), active("c")),
        [ended("c"), kept("b", result=b"\x00\xff")],
        [],
        {
            **fetched(active("a")),
            "completed": Zset(b=NOW + 60),
            "t:b": completed("b", b"\x00\xff"),
            **counted(2),
            **events(("completed", "c b")),
            **attempts(attempt("c", "completed"), attempt("b", "completed")),
        },
    ),
    "previews are kept with the results that have one": (
        fetched(active("a", retention=60), active("b", retention=60), active("c")),
        [kept("a", preview=b"shown"), kept("b"), ended("c"), kept("x", preview=b"no")],
        [3],
        {
            "completed": Zset(a=NOW + 60, b=NOW + 60),
            "t:a": completed("a", **{"nbq:preview": "shown"}),
            "t:b": completed("b"),
            **counted(3),
            **events(("completed", "a b c")),
            **attempts(*(attempt(each, "completed") for each in "abc")),
        },
    ),
    "one that is not held any more changes nothing": (
        fetched(active("a")),
        [ended("x"), ended("a"), ended("y")],
        [0, 2],
        {
            **counted(1),
            **events(("completed", "a")),
            **attempts(attempt("a", "completed")),
        },
    ),
    "nothing held, nothing written": (
        fetched(active("a")),
        [ended("a", fence="Tother")],
        [0],
        fetched(active("a")),
    ),
    "the same task twice in one call ends once": (
        fetched(active("a")),
        [ended("a"), ended("a")],
        [1],
        {
            **counted(1),
            **events(("completed", "a")),
            **attempts(attempt("a", "completed")),
        },
    ),
    "an empty result, and no time of waiting": (
        fetched(active("a", retention=60)),
        [kept("a", result=b"", waited_ms=None)],
        [],
        {
            "completed": Zset(a=NOW + 60),
            "t:a": completed("a", b""),
            **counted(1),
            **events(("completed", "a")),
            **attempts(attempt("a", "completed", waited="")),
        },
    ),
    "its unique lock is given up": (
        {**fetched(active("a", {"unique_key": "asynq:{q}:" + LOCK})), LOCK: "a"},
        [ended("a")],
        [],
        {
            **counted(1),
            **events(("completed", "a")),
            **attempts(attempt("a", "completed")),
        },
    ),
    "a unique lock that another task owns by now stays": (
        {**fetched(active("a", {"unique_key": "asynq:{q}:" + LOCK})), LOCK: "b"},
        [ended("a")],
        [],
        {
            LOCK: "b",
            **counted(1),
            **events(("completed", "a")),
            **attempts(attempt("a", "completed")),
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_complete(broker: Any, redis: Any, name: str) -> None:
    given, tasks, refused, then = CASES[name]
    load(redis, given)
    assert broker.run(lifecycle.complete("q", tasks, NOW_MS, WHO)) == refused
    assert dump(redis) == then


@pytest.mark.parametrize("make", [ended, kept])
def test_a_repeat_is_refused_and_changes_nothing(broker: Any, redis: Any, make: Any) -> None:
    load(redis, fetched(active("a"), active("b")))
    both = [make("a"), make("b")]
    assert broker.run(lifecycle.complete("q", both, NOW_MS, WHO)) == []
    before = dump(redis)
    assert broker.run(lifecycle.complete("q", both, NOW_MS, WHO)) == [0, 1]
    assert dump(redis) == before


def test_an_id_twice_in_active_leaves_it_whole(broker: Any, redis: Any) -> None:
    load(redis, {**fetched(active("a")), "active": ["a", "a"]})
    assert broker.run(lifecycle.complete("q", [ended("a")], NOW_MS, WHO)) == []
    assert "active" not in dump(redis)
