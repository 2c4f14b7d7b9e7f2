"""on_conflict="after": unique tasks wait for the lock of another, one after the other."""

from __future__ import annotations

from typing import Any

import pytest
from asynq_peer import AsynqPeer
from keyspace import NOW_MS, Until, Zset, dump, encoded, task
from transitions import LEASE_MS, NOW, TOKEN, WHO, ended, events, failure

from nbqueue.broker.commands import enqueue as enqueue_commands
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands import lifecycle, limits, maintenance
from nbqueue.broker.commands.enqueue import LockHolder, UniqueLock
from nbqueue.tasks.new_task import NewTask

LOCK = "asynq:{q}:unique:t:83878c91171338902e0fe0fb97a8c47a"
SHORT = LOCK.removeprefix("asynq:{q}:")
WHAT = "lock:" + LOCK
WAIT = "own:wait:" + WHAT
HOUR = 3_600_000
SAFE = NOW + 600


WAITS = UniqueLock(LOCK, HOUR, waits_for_holder=True)


def enqueue(broker: Any, *ids: str, at: int = NOW_MS, **more: Any) -> None:
    for i in ids:
        new = NewTask(i, encoded(i, unique_key=LOCK))
        command = enqueue_commands.enqueue_unique("q", new, WAITS, at, **more)
        assert broker.run(command) == "ENQUEUED"


def unique(task_id: str, state: str, more: dict[str, Any] | None = None) -> Any:
    own = {"unique_key": LOCK, "nbq:unique": HOUR, **(more or {})}
    return task(task_id, state, own, unique_key=LOCK)


def fetch(broker: Any, at: int = NOW_MS) -> list[str]:
    found = broker.run(lifecycle.fetch("q", 5, at, LEASE_MS, TOKEN))
    return [each.task_id for each in found]


def holder(redis: Any) -> str | None:
    found = redis.get(LOCK)
    return found and found.decode()


def test_others_are_parked_behind_the_lock(broker: Any, redis: Any) -> None:
    enqueue(broker, "a", "b", "c")
    content = dump(redis)
    assert isinstance(content.pop(SHORT), Until)
    assert content == {
        "pending": ["a"],
        "scheduled": Zset(b=SAFE, c=SAFE),
        "t:a": unique("a", "pending", {"pending_since": NOW_MS * 1_000_000}),
        "t:b": unique("b", "scheduled", {"nbq:parked": WHAT}),
        "t:c": unique("c", "scheduled", {"nbq:parked": WHAT}),
        WAIT: Zset(b=NOW_MS, c=NOW_MS + 1),
        "own:waiting": Zset({WHAT: NOW_MS + 2000}),
        **events(("enqueued", "a"), ("parked", "b"), ("parked", "c")),
    }
    assert holder(redis) == "a"


def end(broker: Any, how: str, task_id: str) -> None:
    if how == "complete":
        done = broker.run(lifecycle.complete("q", [ended(task_id)], NOW_MS, WHO))
        assert done == []
    elif how == "archive":
        msg = encoded(task_id, unique_key=LOCK)
        assert broker.run(failure_commands.archive("q", failure(task_id), msg, NOW_MS, WHO))
    else:
        AsynqPeer(redis=broker.store.redis).done(task_id)
        broker.store.redis.delete(LOCK)


@pytest.mark.parametrize("how", ["complete", "archive"])
def test_the_lock_goes_on_in_order(broker: Any, redis: Any, how: str) -> None:
    enqueue(broker, "a", "b", "c")
    for task_id in "abc":
        assert holder(redis) == task_id
        assert fetch(broker) == [task_id]
        end(broker, how, task_id)
    assert holder(redis) is None
    own = {name for name in dump(redis) if name.startswith("own:")}
    assert own == {"own:events", "own:attempts"}


def test_who_gets_the_lock_is_as_if_it_had_been_enqueued_alone(broker: Any, redis: Any) -> None:
    enqueue(broker, "a", "b")
    assert fetch(broker) == ["a"]
    end(broker, "complete", "a")
    content = dump(redis, ("own:events", "own:attempts", "processed", "processed:2033-05-18"))
    assert isinstance(content.pop(SHORT), Until)
    assert content == {
        "pending": ["b"],
        "t:b": unique("b", "pending", {"pending_since": NOW_MS * 1_000_000}),
    }
    assert 3_590 <= redis.ttl(LOCK) <= 3_600


def test_cancelling_the_holder_or_one_that_waits(broker: Any, redis: Any) -> None:
    enqueue(broker, "a", "b", "c")
    for task_id in "ba":
        msg = encoded(task_id, unique_key=LOCK)
        command = maintenance.cancel("q", task_id, msg, msg, b"E", NOW_MS)
        assert broker.run(command) == "CANCELLED"
    assert holder(redis) == "c"
    assert fetch(broker) == ["c"]


def test_a_lock_that_go_gave_up_or_that_ran_out_is_noticed(broker: Any, redis: Any) -> None:
    enqueue(broker, "a", "b", "c")
    assert fetch(broker) == ["a"]
    end(broker, "go", "a")
    assert broker.run(limits.release_parked("q", NOW_MS + 1999)).moved == 0
    assert broker.run(limits.release_parked("q", NOW_MS + 2000)).moved == 1
    assert fetch(broker) == ["b"]
    redis.delete(LOCK)
    assert broker.run(limits.release_parked("q", NOW_MS + 4000)) == (1, None)
    assert fetch(broker) == ["c"]


def test_one_that_runs_keeps_its_lock_while_judged(broker: Any, redis: Any) -> None:
    enqueue(broker, "a", "b")
    assert fetch(broker) == ["a"]
    assert broker.run(limits.release_parked("q", NOW_MS + 2000)) == (0, NOW_MS + 4000)
    assert holder(redis) == "a"


def test_a_newcomer_does_not_overtake_those_that_wait(broker: Any, redis: Any) -> None:
    enqueue(broker, "a", "b")
    assert fetch(broker) == ["a"]
    redis.delete(LOCK)
    enqueue(broker, "c")
    assert holder(redis) == "b"
    assert fetch(broker) == ["b"]


def test_a_delayed_one_waits_for_both(broker: Any, redis: Any) -> None:
    enqueue(broker, "a")
    enqueue(broker, "b", due_ms=NOW_MS + 5_500)
    assert fetch(broker) == ["a"]
    end(broker, "complete", "a")
    content = dump(redis)
    assert content["scheduled"] == Zset(b=NOW + 6)
    assert content["t:b"] == unique("b", "scheduled", {"nbq:due": NOW_MS + 5_500})
    assert holder(redis) == "b"


def test_an_inspector_that_runs_it_does_not_break_the_order(broker: Any, redis: Any) -> None:
    enqueue(broker, "a", "b")
    assert fetch(broker) == ["a"]
    assert AsynqPeer(redis).run_one("b") == 1
    assert fetch(broker) == []
    assert dump(redis)["t:b"] == unique("b", "scheduled", {"nbq:parked": WHAT})
    end(broker, "complete", "a")
    assert fetch(broker) == ["b"]


def test_it_can_be_under_a_limit_too(broker: Any, redis: Any) -> None:
    broker.run(limits.set_limit("q", "n", "1|||", NOW_MS, NOW_MS))
    other = limits.limited(NewTask("x", encoded("x")), "n")
    broker.run(enqueue_commands.enqueue("q", [other], NOW_MS))
    assert fetch(broker) == ["x"]
    enqueue(broker, "a")
    task_b = limits.limited(NewTask("b", encoded("b", unique_key=LOCK)), "n")
    command = enqueue_commands.enqueue_unique("q", task_b, WAITS, NOW_MS)
    assert broker.run(command) == "ENQUEUED"
    assert fetch(broker) == ["a"]
    end(broker, "complete", "a")
    assert fetch(broker) == []
    assert dump(redis)["t:b"]["nbq:parked"] == "limit:n"
    end(broker, "complete", "x")
    assert fetch(broker) == ["b"]


def test_a_repeat_is_no_second_task(broker: Any, redis: Any) -> None:
    enqueue(broker, "a", "b")
    before = dump(redis)
    enqueue(broker, "b", repeated=True)
    assert dump(redis) == before


def test_those_that_would_not_wait_are_told_of_the_holder(broker: Any, redis: Any) -> None:
    enqueue(broker, "a", "b")
    new = NewTask("c", encoded("c", unique_key=LOCK))
    command = enqueue_commands.enqueue_unique("q", new, UniqueLock(LOCK, HOUR), NOW_MS)
    assert broker.run(command) == LockHolder("a", "pending")
