"""enqueue: new tasks are pending behind all others."""

from __future__ import annotations

from typing import Any

import pytest
from asynq_peer import AsynqPeer
from keyspace import NOW_MS, Zset, dump, encoded, load, task
from transitions import events

from nbqueue.broker.commands import enqueue
from nbqueue.broker.commands.enqueue import UniqueLock
from nbqueue.broker.new_tasks import ENQUEUED, EnqueueRequest
from nbqueue.tasks.new_task import NewTask

NS = {"pending_since": NOW_MS * 1_000_000}
CODE = b"\x01\xab"
WITH_CODE = {"own:code:01ab": "blob", "own:codes": Zset({"01ab": 5})}


def new(task_id: str, **fields: Any) -> NewTask:
    return NewTask(task_id, encoded(task_id, **fields))


def pending(task_id: str, **fields: Any) -> Any:
    return task(task_id, "pending", NS, **fields)


CASES = {
    "one task": (
        {},
        [new("a")],
        [],
        {"pending": ["a"], "t:a": pending("a"), **events(("enqueued", "a"))},
    ),
    "many, of which the first is taken first": (
        {"pending": ["old"], "t:old": pending("old")},
        [new("a"), new("b"), new("c")],
        [],
        {
            "pending": ["c", "b", "a", "old"],
            **{f"t:{i}": pending(i) for i in ("old", "a", "b", "c")},
            **events(("enqueued", "a b c")),
        },
    ),
    "an id that exists, in whatever state, is left as it is": (
        {
            "completed": Zset({"b": 2_000_000_100}),
            "t:b": task("b", "completed", {"result": b"r"}),
        },
        [new("a"), new("b", payload=b"other")],
        [1],
        {
            "completed": Zset({"b": 2_000_000_100}),
            "t:b": task("b", "completed", {"result": b"r"}),
            "pending": ["a"],
            "t:a": pending("a"),
            **events(("enqueued", "a")),
        },
    ),
    "the same id twice in one call": (
        {},
        [new("a"), new("a", payload=b"other")],
        [1],
        {"pending": ["a"], "t:a": pending("a"), **events(("enqueued", "a"))},
    ),
    "nothing but conflicts writes nothing": (
        {"pending": ["a"], "t:a": pending("a")},
        [new("a")],
        [0],
        {"pending": ["a"], "t:a": pending("a")},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_enqueue(broker: Any, redis: Any, name: str) -> None:
    given, tasks, conflicts, then = CASES[name]
    load(redis, given)
    assert broker.run(enqueue.enqueue("q", tasks, NOW_MS)) == conflicts
    assert dump(redis) == then


def test_without_its_code_no_task_of_a_call_is_written(broker: Any, redis: Any) -> None:
    assert broker.run(enqueue.enqueue("q", [new("a")], NOW_MS, CODE)) is None
    assert dump(redis) == {}


def test_asking_for_code_says_when_it_was_last_asked_for(broker: Any, redis: Any) -> None:
    load(redis, WITH_CODE)
    assert broker.run(enqueue.enqueue("q", [new("a")], NOW_MS, CODE)) == []
    assert dump(redis) == {
        "own:code:01ab": "blob",
        "own:codes": Zset({"01ab": NOW_MS}),
        "pending": ["a"],
        "t:a": pending("a"),
        **events(("enqueued", "a")),
    }


def test_a_repeat_counts_what_an_earlier_try_wrote_as_written_now(broker: Any, redis: Any) -> None:
    broker.run(enqueue.enqueue("q", [new("a")], NOW_MS))
    before = dump(redis)
    assert broker.run(enqueue.enqueue("q", [new("a")], NOW_MS + 1, repeated=True)) == []
    assert dump(redis) == before


def test_a_repeat_still_finds_the_id_of_another_task_taken(broker: Any, redis: Any) -> None:
    broker.run(enqueue.enqueue("q", [new("a", payload=b"other")], NOW_MS))
    before = dump(redis)
    assert broker.run(enqueue.enqueue("q", [new("a")], NOW_MS, repeated=True)) == [0]
    assert dump(redis) == before


def test_the_broker_enqueues_in_batches_and_numbers_conflicts_through(
    broker: Any, redis: Any
) -> None:
    broker.run(enqueue.enqueue("q", [new("300")], NOW_MS))
    tasks = [new(str(i)) for i in range(600)]
    assert broker.enqueue(EnqueueRequest("q", tasks)).conflicts == [300]
    assert redis.llen("asynq:{q}:pending") == 600
    assert redis.smembers("asynq:queues") == {b"q"}
    order = [i.decode() for i in redis.lrange("asynq:{q}:pending", 0, -1)][::-1]
    assert order == ["300", *(str(i) for i in range(600) if i != 300)]


def test_the_broker_sends_code_along_only_if_the_store_lacks_it(broker: Any, redis: Any) -> None:
    assert (
        broker.enqueue(EnqueueRequest("q", [new("a")], fingerprint=CODE, blob=b"blob")) == ENQUEUED
    )
    redis.set("nbqueue:{q}:code:01ab", b"first")
    assert (
        broker.enqueue(EnqueueRequest("q", [new("b")], fingerprint=CODE, blob=b"second"))
        == ENQUEUED
    )
    assert redis.get("nbqueue:{q}:code:01ab") == b"first"
    assert redis.lrange("asynq:{q}:pending", 0, -1) == [b"b", b"a"]


def test_the_broker_does_not_ask_for_ever_for_code_that_nobody_has(broker: Any) -> None:
    with pytest.raises(ConnectionError, match="lacks the code"):
        broker.enqueue(EnqueueRequest("q", [new("a")], fingerprint=CODE))


@pytest.mark.parametrize("how", ["now", "scheduled", "grouped", "unique"])
def test_the_broker_registers_a_queue_again_that_somebody_removed(
    broker: Any, redis: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    broker.enqueue(EnqueueRequest("q", [new("a")]))
    # The first one waits for no time at all between two tasks.
    monkeypatch.setattr("nbqueue.broker.broker._REGISTER_SECONDS", 0.0)
    AsynqPeer(redis).remove_queue(force=True)
    assert redis.smembers("asynq:queues") == set()
    if how == "unique":
        broker.enqueue(
            EnqueueRequest("q", [new("b")], lock=UniqueLock("asynq:{q}:unique:t:", 1_000))
        )
    else:
        due_ms = NOW_MS + 1_000 if how == "scheduled" else None
        broker.enqueue(
            EnqueueRequest("q", [new("b")], due_ms=due_ms, group="g" if how == "grouped" else "")
        )
    assert redis.smembers("asynq:queues") == {b"q"}
