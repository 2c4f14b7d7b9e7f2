"""Removing a queue leaves nothing behind, and loses no task that is enqueued meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Stream, Until, Zset, check_invariants, dump, encoded, load, task
from transitions import LEASE_MS, NOW, active, fetched

from nbqueue.broker import queue_removal
from nbqueue.broker.broker import Broker
from nbqueue.broker.commands import enqueue as enqueue_commands
from nbqueue.broker.commands import inspect, lifecycle
from nbqueue.broker.new_tasks import ENQUEUED, EnqueueRequest
from nbqueue.broker.queue_removal import QueueRemoval
from nbqueue.errors import QueueNotEmpty, QueueNotFound
from nbqueue.store.connection import Store
from nbqueue.tasks.new_task import NewTask

LOCK = "asynq:{q}:unique:t:83878c91171338902e0fe0fb97a8c47a"
SHORT = LOCK.removeprefix("asynq:{q}:")
OTHER = {
    "asynq:{r}:pending": ["a"],
    "asynq:{r}:t:a": task("a", "pending"),
    "asynq:{q2}:paused": "1",
}
COUNTERS: dict[str, Any] = {
    "processed": "9",
    "failed": "3",
    "processed:2033-05-18": "1",
    "processed:2001-01-01": "1",
    "failed:2033-05-18": "1",
    "paused": "1",
    "own:events": Stream([{"event": "x"}]),
    "own:attempts": Stream([{"task_id": "x"}]),
    "own:codes": Zset(aa=1),
    "own:code:aa": "blob",
    "own:handlers": {"t": "e"},
    "own:trimmed": "4",
    "own:settings": {"archive_max": "4"},
    "own:name:train": "a",
    "own:of a later version": "x",
}
EVERYWHERE: dict[str, Any] = {
    "pending": ["p2", "p1"],
    "t:p1": task("p1", "pending", {"pending_since": 1, "unique_key": LOCK}, unique_key=LOCK),
    "t:p2": task("p2", "pending"),
    SHORT: "p1",
    "scheduled": Zset(s=NOW),
    "t:s": task("s", "scheduled"),
    "retry": Zset(r=NOW),
    "t:r": task("r", "retry"),
    "archived": Zset(d=NOW),
    "t:d": task("d", "archived"),
    "completed": Zset(c=NOW),
    "t:c": task("c", "completed"),
    "groups": {"g", "gone"},
    "g:g": Zset(g1=NOW),
    "t:g1": task("g1", "aggregating", {"group": "g"}),
}
LEFT_OVER: dict[str, Any] = {
    # Of a group whose name is not registered, in flight, trimmed without its hash, lost.
    "g:h:1": Zset(h1=NOW),
    "aggregation_sets": Zset({"asynq:{q}:g:h:1": NOW}),
    "t:h1": task("h1", "aggregating", {"group": "h"}),
    "g:i": Zset(i1=NOW),
    "t:i1": task("i1", "aggregating", {"group": "i"}),
    "t:trimmed": task("trimmed", "archived"),
    "unique:t:old": Until("nobody", NOW),
    "active": ["dead"],
    "t:dead": active("dead"),
    "lease": Zset(dead=NOW - 5, ghost=NOW - 5),
}


def given(redis: Any, *contents: dict[str, Any]) -> None:
    for content in contents:
        load(redis, content)
    redis.sadd("asynq:queues", "q", "r", "q2")


def others() -> dict[str, Any]:
    return {**OTHER, "asynq:queues": {"r", "q2"}}


def remove(broker: Broker, force: bool = False) -> None:
    QueueRemoval(broker, "q").run(force)


def test_an_empty_queue_goes_with_all_that_was_kept_for_it(broker: Any, redis: Any) -> None:
    given(redis, COUNTERS, OTHER)
    remove(broker)
    assert dump(redis) == others()


def test_a_full_queue_goes_by_force_and_others_stay(broker: Any, redis: Any) -> None:
    given(redis, COUNTERS, EVERYWHERE, LEFT_OVER, OTHER)
    remove(broker, force=True)
    assert dump(redis) == others()
    with pytest.raises(QueueNotFound, match="no queue 'q'"):
        remove(broker, force=True)


@pytest.mark.parametrize("name", ["p*", "[q]", "q?", "a-b.c:d", "\\q", "^"])
def test_names_with_characters_of_patterns(broker: Any, redis: Any, name: str) -> None:
    for queue in (name, "pq", "q", "qq"):
        redis.sadd("asynq:queues", queue)
        redis.set(f"asynq:{{{queue}}}:processed", 1)
        redis.set(f"nbqueue:{{{queue}}}:trimmed", 1)
    QueueRemoval(broker, name).run(False)
    left = {key.decode() for key in redis.keys("*")} - {"asynq:queues"}
    assert left == {
        f"{head}:{{{queue}}}:{tail}"
        for queue in ("pq", "q", "qq")
        for head, tail in (("asynq", "processed"), ("nbqueue", "trimmed"))
    }


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize(
    "content",
    [
        {"pending": ["a"], "t:a": task("a", "pending")},
        {"scheduled": Zset(a=1), "t:a": task("a", "scheduled")},
        {"archived": Zset(a=1), "t:a": task("a", "archived")},
        {"completed": Zset(a=1), "t:a": task("a", "completed")},
        {"g:g": Zset(a=1), "groups": {"g"}, "t:a": task("a", "aggregating", {"group": "g"})},
        {"t:a": task("a", "waiting")},
        fetched(active("a")),
    ],
)
def test_a_queue_with_tasks_is_not_removed_without_force(
    broker: Any, redis: Any, content: Any
) -> None:
    given(redis, COUNTERS, content)
    before = dump(redis)
    with pytest.raises(QueueNotEmpty, match="force=True"):
        remove(broker)
    assert dump(redis) == before


def test_a_group_of_which_only_the_name_is_left_is_no_task(broker: Any, redis: Any) -> None:
    given(redis, {"groups": {"gone"}, "aggregation_sets": Zset({"asynq:{q}:g:x:1": NOW})})
    remove(broker)
    assert dump(redis) == {"asynq:queues": {"r", "q2"}}


def test_nothing_is_deleted_while_a_worker_holds_a_task(broker: Any, redis: Any) -> None:
    given(redis, EVERYWHERE, fetched(active("a")))
    before = dump(redis)
    with pytest.raises(QueueNotEmpty, match="workers run tasks of queue 'q'"):
        remove(broker, force=True)
    assert dump(redis) == before


def test_many_tasks_go_in_slices(broker: Any, redis: Any) -> None:
    ids = [f"a{i:04}" for i in range(1300)]
    for start in range(0, 1300, 100):
        part = [NewTask(i, encoded(i)) for i in ids[start : start + 100]]
        broker.run(enqueue_commands.enqueue("q", part, NOW_MS))
        later = [(NewTask(f"s{task.task_id}", task.msg), NOW_MS) for task in part]
        broker.run(enqueue_commands.schedule("q", later, NOW_MS))
    redis.sadd("asynq:queues", "q")
    remove(broker, force=True)
    assert dump(redis) == {}


def meanwhile(monkeypatch: pytest.MonkeyPatch, name: str, act: Any) -> None:
    """Let another client act, once, right before a step of the removal."""
    original = getattr(QueueRemoval, name)
    acts = [act]

    def step(self: QueueRemoval, *args: Any) -> Any:
        if acts:
            acts.pop()()
        return original(self, *args)

    monkeypatch.setattr(QueueRemoval, name, step)


@pytest.mark.parametrize("step", ["_names", "_drop", "_forget"])
@pytest.mark.parametrize("force", [False, True])
def test_a_task_that_comes_in_meanwhile_is_removed_or_lies_there_whole(
    broker: Any, redis: Any, store: Store, monkeypatch: pytest.MonkeyPatch, step: str, force: bool
) -> None:
    given(redis, COUNTERS)
    other = Broker(store)

    def enqueue() -> None:
        assert (
            other.enqueue(
                EnqueueRequest(
                    "q", [NewTask("new", encoded("new"))], fingerprint=b"\xaa", blob=b"blob"
                )
            )
            == ENQUEUED
        )

    meanwhile(monkeypatch, step, enqueue)
    if force:
        remove(broker, force)
        assert dump(redis) == {"asynq:queues": {"r", "q2"}}
    else:
        with pytest.raises(QueueNotEmpty):
            remove(broker, force)
        content = dump(redis)
        check_invariants(content)
        assert content["pending"] == ["new"]
        assert content["own:code:aa"] == "blob"
        assert "q" in content["asynq:queues"]
    other.close()


def test_a_task_that_is_fetched_meanwhile_is_left_to_its_worker(
    broker: Any, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(redis, {"pending": ["a"], "t:a": task("a", "pending")})
    fetch = lifecycle.fetch("q", 1, NOW_MS, LEASE_MS, "t")
    meanwhile(monkeypatch, "_names", lambda: broker.run(fetch))
    with pytest.raises(QueueNotEmpty, match="workers run tasks"):
        remove(broker, force=True)
    content = dump(redis)
    assert content["active"] == ["a"]
    assert "q" in content["asynq:queues"]


def test_a_producer_that_never_rests_is_said_to_be_there(
    broker: Any, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(redis)
    monkeypatch.setattr(queue_removal, "_ROUNDS", 3)
    original = QueueRemoval._drop
    numbers = iter(range(9))

    def drop(self: QueueRemoval, names: Any) -> bool:
        new = NewTask(f"n{next(numbers)}", encoded("n"))
        broker.run(enqueue_commands.enqueue("q", [new], NOW_MS))
        return original(self, names)

    monkeypatch.setattr(QueueRemoval, "_drop", drop)
    with pytest.raises(QueueNotEmpty, match="tasks keep coming in"):
        remove(broker, force=True)
    assert dump(redis)["pending"] == ["n2"]


@pytest.mark.usefixtures("odd_store")
def test_an_id_whose_task_lives_elsewhere_takes_nothing_with_it(broker: Any, redis: Any) -> None:
    load(redis, {"scheduled": Zset(a=NOW), "retry": Zset(a=NOW), "t:a": task("a", "retry")})
    command = inspect.empty("q", "asynq:{q}:scheduled", "scheduled", NOW_MS)
    assert broker.run(command) == 1
    assert dump(redis) == {"retry": Zset(a=NOW), "t:a": task("a", "retry")}
    assert broker.run(command) == 0
