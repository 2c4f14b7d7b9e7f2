"""schedule: tasks wait until they are due."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, encoded, load, task
from transitions import NOW, events

from nbqueue.broker.commands import enqueue
from nbqueue.broker.new_tasks import ENQUEUED, EnqueueRequest
from nbqueue.tasks.new_task import NewTask


def new(task_id: str, **fields: Any) -> NewTask:
    return NewTask(task_id, encoded(task_id, **fields))


def scheduled(task_id: str, due_ms: int) -> Any:
    return task(task_id, "scheduled", {"nbq:due": due_ms})


@pytest.mark.parametrize(
    ("due_ms", "score"),
    [
        (NOW * 1000 + 5_000, NOW + 5),
        (NOW * 1000 + 5_001, NOW + 6),
        (NOW * 1000 + 5_999, NOW + 6),
    ],
)
def test_a_score_is_a_whole_second_and_never_before_the_task_is_due(
    broker: Any, redis: Any, due_ms: int, score: int
) -> None:
    assert broker.run(enqueue.schedule("q", [(new("a"), due_ms)], NOW_MS)) == []
    assert dump(redis) == {
        "scheduled": Zset({"a": score}),
        "t:a": scheduled("a", due_ms),
        **events(("scheduled", "a")),
    }


def test_many_and_one_whose_id_exists(broker: Any, redis: Any) -> None:
    due = NOW * 1000 + 60_000
    load(redis, {"pending": ["b"], "t:b": task("b", "pending", {"pending_since": 1})})
    tasks = [(new("a"), due), (new("b"), due), (new("c"), due + 1)]
    assert broker.run(enqueue.schedule("q", tasks, NOW_MS)) == [1]
    assert dump(redis) == {
        "pending": ["b"],
        "t:b": task("b", "pending", {"pending_since": 1}),
        "scheduled": Zset({"a": NOW + 60, "c": NOW + 61}),
        "t:a": scheduled("a", due),
        "t:c": scheduled("c", due + 1),
        **events(("scheduled", "a c")),
    }


def test_workers_are_told_when_the_earliest_is_due(broker: Any, redis: Any) -> None:
    with redis.pubsub() as listener:
        listener.subscribe("nbqueue:{q}:wake")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        tasks = [(new("a"), NOW_MS + 9_000), (new("b"), NOW_MS + 7_001)]
        broker.run(enqueue.schedule("q", tasks, NOW_MS))
        assert listener.get_message(timeout=5)["data"] == b"due %d" % (NOW_MS + 7_001)


def test_without_its_code_no_task_of_a_call_is_written(broker: Any, redis: Any) -> None:
    assert broker.run(enqueue.schedule("q", [(new("a"), NOW_MS)], NOW_MS, b"\x01")) is None
    assert dump(redis) == {}


def test_a_repeat_counts_what_an_earlier_try_wrote_as_written_now(broker: Any, redis: Any) -> None:
    tasks = [(new("a"), NOW_MS + 9_000)]
    broker.run(enqueue.schedule("q", tasks, NOW_MS))
    before = dump(redis)
    assert broker.run(enqueue.schedule("q", tasks, NOW_MS + 1, repeated=True)) == []
    assert broker.run(enqueue.schedule("q", tasks, NOW_MS + 1)) == [0]
    assert dump(redis) == before


def test_the_broker_schedules_and_registers_the_queue(broker: Any, redis: Any) -> None:
    assert broker.enqueue(EnqueueRequest("q", [new("a")], due_ms=NOW_MS + 500)) == ENQUEUED
    assert redis.zrange("asynq:{q}:scheduled", 0, -1, withscores=True) == [(b"a", NOW + 1)]
    assert redis.smembers("asynq:queues") == {b"q"}
