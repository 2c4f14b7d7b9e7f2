"""Unique tasks: the lock is taken, held for its time, and never left behind."""

from __future__ import annotations

from typing import Any

import pytest
from asynq_peer import AsynqPeer
from keyspace import NOW_MS, Until, Zset, dump, encoded, load, task
from transitions import FENCE, NOW, WHO, active, ended, events, failure, fetched, kept

from nbqueue.broker.commands import enqueue as enqueue_commands
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands import lifecycle, maintenance
from nbqueue.broker.commands.enqueue import LockHolder, UniqueLock
from nbqueue.broker.commands.failure import ArchiveRules
from nbqueue.broker.new_tasks import ENQUEUED, EnqueueRequest
from nbqueue.errors import StoreError
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.script_call import Command

LOCK = "asynq:{q}:unique:t:83878c91171338902e0fe0fb97a8c47a"
"""The lock of type t and payload p, as Asynq names it."""
SHORT = LOCK.removeprefix("asynq:{q}:")
HOUR = 3_600_000
SINCE = NOW_MS * 1_000_000


def new(task_id: str = "a", **fields: Any) -> NewTask:
    return NewTask(task_id, encoded(task_id, unique_key=LOCK, **fields))


def unique(task_id: str, state: str, more: dict[str, Any] | None = None, **fields: Any) -> Any:
    own = {"unique_key": LOCK, "nbq:unique": HOUR, **(more or {})}
    own = {name: value for name, value in own.items() if value is not None}
    return task(task_id, state, own, unique_key=LOCK, **fields)


def enqueue(task_id: str = "a", *, replace: bool = False, **more: Any) -> Command[Any]:
    lock = UniqueLock(LOCK, HOUR, replaces_holder=replace)
    return enqueue_commands.enqueue_unique("q", new(task_id), lock, NOW_MS, **more)


def without_lock(redis: Any) -> dict[str, Any]:
    return dump(redis, (SHORT,))


def lock(redis: Any) -> tuple[str, int] | None:
    """Return the holder of the lock, and its remaining seconds."""
    holder = redis.get(LOCK)
    return holder and (holder.decode(), round(redis.pttl(LOCK) / 1000))


PENDING = unique("a", "pending", {"pending_since": SINCE})
HOLDERS: dict[str, dict[str, Any]] = {
    "pending": {"pending": ["h"], "t:h": unique("h", "pending", {"pending_since": 1})},
    "scheduled": {"scheduled": Zset(h=NOW + 9), "t:h": unique("h", "scheduled")},
    "retry": {"retry": Zset(h=NOW + 9), "t:h": unique("h", "retry")},
    "aggregating": {
        "g:g": Zset(h=NOW),
        "groups": {"g"},
        # As programs in Go leave it: the lock is named in the message only.
        "t:h": task("h", "aggregating", {"group": "g"}, unique_key=LOCK, group_key="g"),
    },
    "active": {
        "active": ["h"],
        "lease": Zset(h=NOW + 30),
        "t:h": unique("h", "active"),
    },
    "archived": {"archived": Zset(h=NOW), "t:h": unique("h", "archived")},
    "completed": {"completed": Zset(h=NOW + 99), "t:h": unique("h", "completed")},
}


def test_a_unique_task_lies_there_as_asynq_puts_it(broker: Any, redis: Any) -> None:
    assert broker.run(enqueue()) == "ENQUEUED"
    assert without_lock(redis) == {"pending": ["a"], "t:a": PENDING, **events(("enqueued", "a"))}
    assert lock(redis) == ("a", 3600)


def test_a_scheduled_one_holds_its_lock_until_an_hour_after_it_is_due(
    broker: Any, redis: Any
) -> None:
    assert broker.run(enqueue(due_ms=NOW_MS + 10_500)) == "ENQUEUED"
    assert without_lock(redis) == {
        "scheduled": Zset(a=NOW + 11),
        "t:a": unique("a", "scheduled", {"nbq:due": NOW_MS + 10_500}),
        **events(("scheduled", "a")),
    }
    assert lock(redis) in (("a", 3610), ("a", 3611))


@pytest.mark.parametrize("state", HOLDERS)
def test_who_holds_the_lock_keeps_others_away(broker: Any, redis: Any, state: str) -> None:
    load(redis, {**HOLDERS[state], SHORT: Until("h", NOW + 60)})
    before = dump(redis)
    assert broker.run(enqueue()) == LockHolder("h", state)
    assert dump(redis) == before


@pytest.mark.parametrize("state", ["pending", "scheduled", "retry", "aggregating"])
def test_a_holder_that_does_not_run_is_replaced(broker: Any, redis: Any, state: str) -> None:
    load(redis, {**HOLDERS[state], SHORT: "h"})
    assert broker.run(enqueue(replace=True)) == "ENQUEUED"
    assert without_lock(redis) == {
        "pending": ["a"],
        "t:a": PENDING,
        **events(("deleted", "h"), ("enqueued", "a")),
    }
    assert lock(redis) == ("a", 3600)


def test_one_that_runs_is_not_replaced(broker: Any, redis: Any) -> None:
    load(redis, {**HOLDERS["active"], SHORT: "h"})
    before = dump(redis)
    assert broker.run(enqueue(replace=True)) == LockHolder("h", "active")
    assert dump(redis) == before


@pytest.mark.parametrize("state", ["archived", "completed"])
def test_one_that_ended_gives_up_its_lock_and_stays(broker: Any, redis: Any, state: str) -> None:
    load(redis, {**HOLDERS[state], SHORT: "h"})
    assert broker.run(enqueue(replace=True)) == "ENQUEUED"
    assert without_lock(redis) == {
        **HOLDERS[state],
        "pending": ["a"],
        "t:a": PENDING,
        **events(("enqueued", "a")),
    }
    assert lock(redis) == ("a", 3600)


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize(
    "left",
    [{}, {"t:h": {"state": "active"}}, {"t:h": task("h", "pending"), "pending": ["h"]}],
    ids=["nothing", "no message", "another task of that id"],
)
def test_a_lock_whose_task_is_gone_is_taken_over(broker: Any, redis: Any, left: Any) -> None:
    load(redis, {**left, SHORT: "h"})
    assert broker.run(enqueue()) == "ENQUEUED"
    assert lock(redis) == ("a", 3600)
    assert dump(redis)["t:a"] == PENDING


def test_an_id_that_exists_takes_no_lock(broker: Any, redis: Any) -> None:
    load(redis, {"pending": ["a"], "t:a": task("a", "pending", {"pending_since": 1})})
    before = dump(redis)
    assert broker.run(enqueue()) == "EXISTS"
    assert dump(redis) == before
    assert broker.enqueue(EnqueueRequest("q", [new()], lock=UniqueLock(LOCK, HOUR))).conflicts == [
        0
    ]


def test_a_repeat_counts_what_an_earlier_try_wrote(broker: Any, redis: Any) -> None:
    broker.run(enqueue())
    before = without_lock(redis)
    assert broker.run(enqueue(repeated=True)) == "ENQUEUED"
    assert broker.run(enqueue()) == "EXISTS"
    assert without_lock(redis) == before


def test_without_its_code_nothing_is_written(broker: Any, redis: Any) -> None:
    assert broker.run(enqueue(fingerprint=b"\x01")) == "NOCODE"
    assert dump(redis) == {}
    assert (
        broker.enqueue(
            EnqueueRequest(
                "q", [new()], lock=UniqueLock(LOCK, HOUR), fingerprint=b"\x01", blob=b"b"
            )
        )
        == ENQUEUED
    )
    assert redis.get("nbqueue:{q}:code:01") == b"b"
    with pytest.raises(StoreError, match="lacks the code"):
        broker.enqueue(
            EnqueueRequest("q", [new("b")], lock=UniqueLock(LOCK, HOUR), fingerprint=b"\x02")
        )


def test_go_and_we_exclude_each_other(broker: Any, redis: Any) -> None:
    peer = AsynqPeer(redis)
    assert peer.enqueue_unique("g", encoded("g", unique_key=LOCK), SINCE, SHORT, 60) == 1
    assert broker.run(enqueue("a")) == LockHolder("g", "pending")
    peer.dequeue(NOW)
    assert broker.run(enqueue("a")) == LockHolder("g", "active")
    peer.done("g")
    redis.delete(LOCK)  # as Asynq's script for unique tasks does
    assert broker.run(enqueue("a")) == "ENQUEUED"
    assert peer.enqueue_unique("h", encoded("h", unique_key=LOCK), SINCE, SHORT, 60) == -1


HELD = fetched(active("h", {"unique_key": LOCK, "nbq:unique": HOUR}, unique_key=LOCK))


def failing(**more: Any) -> Command[Any]:
    return failure_commands.archive("q", failure("h"), encoded("h"), NOW_MS, WHO, **more)


ENDS: dict[str, tuple[dict[str, Any], Command[Any]]] = {
    "done": (HELD, lifecycle.complete("q", [ended("h")], NOW_MS, WHO)),
    "completed": (HELD, lifecycle.complete("q", [kept("h")], NOW_MS, WHO)),
    "archived": (HELD, failing()),
    "cancelled": (
        HOLDERS["pending"],
        maintenance.cancel("q", "h", new("h").msg, encoded("h"), b"E", NOW_MS),
    ),
    "expired": (
        {**HOLDERS["completed"], "completed": Zset(h=NOW)},
        maintenance.delete_expired("q", NOW_MS),
    ),
    "trimmed": (
        {
            **fetched(active("b")),
            **HOLDERS["archived"],
        },
        failure_commands.archive(
            "q", failure("b"), encoded("b"), NOW_MS, WHO, rules=ArchiveRules(most=1)
        ),
    ),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("is_ours", [True, False])
def test_a_task_that_ends_gives_up_its_lock_and_no_other(
    broker: Any, redis: Any, end: str, is_ours: bool
) -> None:
    given, command = ENDS[end]
    load(redis, {**given, SHORT: "h" if is_ours else "another"})
    broker.run(command)
    assert redis.get(LOCK) == (None if is_ours else b"another")


def test_a_lock_that_only_the_message_names_is_given_up_too(broker: Any, redis: Any) -> None:
    for long in ("", "x" * 120):
        redis.flushall()
        name = f"asynq:{{q}}:unique:t{long}:83878c91171338902e0fe0fb97a8c47a"
        load(redis, {**fetched(active("h", unique_key=name)), name: "h"})
        broker.run(lifecycle.complete("q", [ended("h")], NOW_MS, WHO))
        assert not redis.exists(name)


def test_the_archive_may_keep_the_lock(broker: Any, redis: Any) -> None:
    load(redis, {**HELD, SHORT: "h"})
    assert broker.run(failing(rules=ArchiveRules(keep_lock=True)))
    assert redis.get(LOCK) == b"h"
    assert broker.run(enqueue()) == LockHolder("h", "archived")


def test_a_lock_outside_of_the_queue_is_not_touched(broker: Any, redis: Any) -> None:
    other = "asynq:{other}:unique:t:"
    load(redis, fetched(active("h", {"unique_key": other}, unique_key=other)))
    redis.set(other, "h")
    assert broker.run(lifecycle.complete("q", [ended("h")], NOW_MS, WHO)) == []
    assert redis.get(other) == b"h"


@pytest.mark.parametrize(
    ("ttl", "held", "then"),
    [
        (HOUR, ("h", 5), ("h", 3700)),
        (HOUR, None, ("h", 3700)),
        (HOUR, ("another", 5), ("another", 5)),
        (None, ("h", 50), ("h", 150)),
        (None, None, None),
    ],
    ids=["ours", "ran out", "of another", "as Go took it", "Go's ran out"],
)
def test_a_retried_task_keeps_its_lock_until_it_is_due_and_longer(
    broker: Any, redis: Any, ttl: int | None, held: Any, then: Any
) -> None:
    given = fetched(active("h", {"unique_key": LOCK, "nbq:unique": ttl}, unique_key=LOCK))
    load(redis, given)
    if held:
        redis.set(LOCK, held[0], ex=held[1])
    msg = encoded("h", unique_key=LOCK, retried=1)
    assert broker.run(failure_commands.retry("q", failure("h"), msg, NOW_MS + 100_000, NOW_MS, WHO))
    assert lock(redis) == then


def test_a_stranger_gives_up_no_lock(broker: Any, redis: Any) -> None:
    load(redis, {**HELD, SHORT: "h"})
    assert (
        broker.run(failure_commands.archive("q", failure("h", fence=FENCE + "x"), b"", NOW_MS, WHO))
        is False
    )
    assert redis.get(LOCK) == b"h"
