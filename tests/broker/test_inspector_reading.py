"""An inspector reads queues, tasks in slices, workers and schedules."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from keyspace import NOW_MS, Zset, dump, load, task
from transitions import DAY, NOW, active, fetched

from nbqueue.broker.reads import store_reader
from nbqueue.broker.reads.asynq_records import AsynqRecords
from nbqueue.broker.reads.models import ActiveTask, DailyStats, QueueInfo, TaskInfo
from nbqueue.broker.reads.store_reader import StoreReader
from nbqueue.clock import from_ms
from nbqueue.errors import QueueNotFound
from nbqueue.wire.messages import (
    GO_ZERO_SECONDS,
    SchedulerEnqueueEvent,
    SchedulerEntry,
    ServerInfo,
    WorkerInfo,
)

NOW_AT = from_ms(NOW_MS)


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


@pytest.fixture
def reader(broker: Any) -> StoreReader:
    return StoreReader(broker)


# --- Queues --------------------------------------------------------------------------------------

EMPTY: dict[str, Any] = dict.fromkeys(
    ("size", "groups", "pending", "active", "scheduled", "retry", "archived", "completed",
     "aggregating", "processed", "failed", "processed_total", "failed_total", "trimmed"), 0,
)  # fmt: skip
EMPTY |= {"queue": "q", "paused": False, "latency": None, "memory": None, "timestamp": NOW_AT}


def full(redis: Any) -> None:
    redis.sadd("asynq:queues", "q")
    content = {
        "pending": ["p2", "p1"],
        "t:p1": task("p1", "pending", {"pending_since": (NOW_MS - 2_500) * 1_000_000}),
        "t:p2": task("p2", "pending"),
        "scheduled": Zset(s=NOW),
        "t:s": task("s", "scheduled"),
        "retry": Zset(r=NOW),
        "t:r": task("r", "retry"),
        "archived": Zset(d=NOW),
        "t:d": task("d", "archived"),
        "completed": Zset(c=NOW),
        "t:c": task("c", "completed"),
        "groups": {"g", "h"},
        "g:g": Zset(g1=NOW, g2=NOW),
        "g:h": Zset(h1=NOW),
        "processed": "90",
        "failed": "30",
        f"processed:{DAY}": "9",
        f"failed:{DAY}": "3",
        "processed:2033-05-16": "4",
        "own:trimmed": "7",
        "paused": "1",
    }
    for i in ("g1", "g2", "h1"):
        content[f"t:{i}"] = task(i, "aggregating", {"group": i[0]})
    load(redis, {**content, **fetched(active("a"))})


def test_a_queue_as_a_whole(redis: Any, reader: StoreReader) -> None:
    full(redis)
    before = dump(redis)
    found = reader.queue("q")
    assert found == QueueInfo(
        **{**EMPTY, "size": 10, "groups": 2, "pending": 2, "active": 1, "scheduled": 1, "retry": 1,
           "archived": 1, "completed": 1, "aggregating": 3, "processed": 9, "failed": 3,
           "processed_total": 90, "failed_total": 30, "trimmed": 7, "paused": True, "latency": 2.5}
    )  # fmt: skip
    assert dump(redis) == before
    assert reader.groups("q") == {"g": 2, "h": 1}
    memory = reader.queue("q", memory=True).memory
    assert memory is not None
    assert 1_000 < memory < 20_000


@pytest.mark.usefixtures("odd_store")
def test_a_queue_with_what_makes_no_sense(redis: Any, reader: StoreReader) -> None:
    redis.sadd("asynq:queues", "q")
    load(redis, {"pending": ["gone"], "groups": {"gone"}, "processed": "many", "failed": ["x"]})
    assert reader.queue("q", memory=True).memory is not None
    assert reader.queue("q") == QueueInfo(
        **{**EMPTY, "size": 1, "pending": 1, "groups": 1},
        fault="'asynq:{q}:failed' holds a list where a string should be",
        unknown=frozenset({"failed_total"}),
    )


@pytest.mark.usefixtures("odd_store")
def test_tasks_that_are_just_being_aggregated_count(redis: Any, reader: StoreReader) -> None:
    redis.sadd("asynq:queues", "q")
    load(redis, {"g:g:1": Zset(a=NOW), "aggregation_sets": Zset({"asynq:{q}:g:g:1": NOW}),
                 "t:a": task("a", "aggregating", {"group": "g"})})  # fmt: skip
    assert reader.queue("q") == QueueInfo(**{**EMPTY, "size": 1, "aggregating": 1})


def test_the_last_days(redis: Any, reader: StoreReader) -> None:
    full(redis)
    assert reader.history("q", 3) == [
        DailyStats("q", date(2033, 5, 18), 9, 3),
        DailyStats("q", date(2033, 5, 17), 0, 0),
        DailyStats("q", date(2033, 5, 16), 4, 0),
    ]


def test_a_queue_that_is_not_there_is_named_with_those_that_are(
    redis: Any, reader: StoreReader
) -> None:
    redis.sadd("asynq:queues", "a", "b")
    for look in (lambda: reader.queue("q"), lambda: reader.history("q", 1)):
        with pytest.raises(QueueNotFound, match="no queue 'q'; there are: 'a', 'b'") as caught:
            look()
        assert caught.value.queue == "q"
    redis.sadd("asynq:queues", *(f"n{i}" for i in range(2000)))
    with pytest.raises(QueueNotFound, match=r"' and 1,982 more$"):
        reader.queue("q")
    assert reader.groups("q") == {}


# --- Tasks ---------------------------------------------------------------------------------------

PLAIN: dict[str, Any] = {
    "id": "a", "queue": "q", "type": "t", "payload": b"p", "headers": {}, "max_retry": 3,
    "retried": 0, "error": None, "last_failed_at": None, "timeout": 1800.0, "deadline": None,
    "group": None, "next_process_at": None, "retention": 0.0, "completed_at": None,
    "result": None, "is_orphaned": False, "attempt": 0, "lost": 0,
}  # fmt: skip


def info(state: str, **more: Any) -> TaskInfo:
    return TaskInfo(**{**PLAIN, "state": state, **more})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"pending": ["a"], "t:a": task("a", "pending")}, info("pending", next_process_at=NOW_AT)),
        (
            {"scheduled": Zset(a=NOW + 9), "t:a": task("a", "scheduled", deadline=NOW + 99)},
            info("scheduled", next_process_at=at(NOW + 9), deadline=at(NOW + 99)),
        ),
        (
            {"retry": Zset(a=NOW + 9),
             "t:a": task("a", "retry", {"nbq:due": NOW_MS + 8_500, "nbq:attempt": 2, "nbq:lost": 1},
                         retried=1, error_msg="boom", last_failed_at=NOW - 1)},
            info("retry", next_process_at=from_ms(NOW_MS + 8_500), retried=1, error="boom",
                 last_failed_at=at(NOW - 1), attempt=2, lost=1),
        ),
        # A program in Go has retried it since: the exact time is of an earlier turn.
        (
            {"retry": Zset(a=NOW + 9), "t:a": task("a", "retry", {"nbq:due": NOW_MS})},
            info("retry", next_process_at=at(NOW + 9)),
        ),
        (
            {"completed": Zset(a=NOW + 9),
             "t:a": task("a", "completed", {"result": b"r"}, completed_at=NOW - 1, retention=10)},
            info("completed", completed_at=at(NOW - 1), result=b"r", retention=10.0,
                 attempt=1),
        ),
        (
            {"g:g": Zset(a=NOW), "groups": {"g"},
             "t:a": task("a", "aggregating", {"group": "g"}, headers={"k": "v"}, timeout=None)},
            info("aggregating", group="g", headers={"k": "v"}, timeout=None),
        ),
        (fetched(active("a")), info("active", attempt=1)),
        (
            {**fetched(active("a")), "lease": Zset(a=NOW - 0.5)},
            info("active", attempt=1, is_orphaned=True),
        ),
    ],
)  # fmt: skip
def test_a_task(redis: Any, reader: StoreReader, content: Any, expected: TaskInfo) -> None:
    load(redis, content)
    assert reader.tasks("q", ["a"]) == [expected]


@pytest.mark.usefixtures("odd_store")
def test_what_is_no_task_is_none_and_what_cannot_be_read_says_so(
    redis: Any, reader: StoreReader
) -> None:
    load(redis, {"t:a": {"state": "pending"}, "t:b": {"msg": b"\xff", "state": "pending"},
                 "t:c": task("c", "scheduled"), "t:d": task("d", "active")})  # fmt: skip
    assert reader.tasks("q", []) == []
    found = reader.tasks("q", ["a", "b", "x", "c", "d"])
    assert (found[0], found[2]) == (None, None)
    assert found[1] is not None
    assert (found[1].state, found[1].fault) == ("pending", "its message cannot be read")
    assert found[3] == info("scheduled", id="c")
    assert found[4] == info("active", id="d", is_orphaned=True, attempt=1)


def test_the_queues_of_an_id(redis: Any, reader: StoreReader) -> None:
    redis.sadd("asynq:queues", "q", "r")
    load(redis, {"scheduled": Zset(a=NOW), "t:a": task("a", "scheduled")})
    redis.hset("asynq:{r}:t:a", "msg", "")
    assert reader.find(["a", "b"]) == {"a": ["q", "r"], "b": []}


@pytest.mark.parametrize("state", ["pending", "retry"])
@pytest.mark.parametrize("number", [0, 1, 3, 4, 9])
def test_places_are_read_in_slices_in_the_order_of_asynq(
    redis: Any, reader: StoreReader, monkeypatch: pytest.MonkeyPatch, state: str, number: int
) -> None:
    monkeypatch.setattr(store_reader, "SLICE", 3)
    ids = [f"a{i}" for i in range(number)]
    place = ids[::-1] if state == "pending" else Zset({i: NOW - n for n, i in enumerate(ids[::-1])})
    tasks = {f"t:{i}": task(i, state) for i in ids}
    load(redis, {state: place, **tasks} if ids else {})
    slices = list(reader.slices("q", state))
    assert all(len(part) <= 3 for part in slices)
    assert [i for part in slices for i, _ in part] == ids
    assert [i for i, _ in reader.snapshot("q", state)] == ids
    if state == "retry" and ids:
        assert slices[0][0] == ("a0", NOW - number + 1)


def test_a_snapshot_misses_nothing_though_the_line_moves(
    redis: Any, reader: StoreReader, broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_reader, "SLICE", 3)
    ids = [f"a{i}" for i in range(10)]
    redis.lpush("asynq:{q}:pending", *ids)
    call, new = broker.call, iter(range(99))

    def busy(*calls: Any, **place: Any) -> Any:
        found = call(*calls, **place)
        redis.lpush("asynq:{q}:pending", f"n{next(new)}")
        redis.rpop("asynq:{q}:pending")
        return found

    monkeypatch.setattr(broker, "call", busy)
    found = [i for i, _ in reader.snapshot("q", "pending")]
    still_there = [i.decode() for i in redis.lrange("asynq:{q}:pending", 0, -1) if i[:1] == b"a"]
    assert still_there
    assert set(still_there) <= set(found)
    assert len(found) == len(set(found))
    redis.delete("asynq:{q}:pending")


# --- Workers and schedules -----------------------------------------------------------------------


def stamp(seconds: int) -> Timestamp:
    return Timestamp(seconds=seconds)


def server(redis: Any, pid: int, *tasks: WorkerInfo, until: int = NOW + 10) -> None:
    key = f"{{h:{pid}:id{pid}}}"
    info = ServerInfo(host="h", pid=pid, server_id=f"id{pid}", concurrency=4, status="active",
                      queues={"q": 2}, start_time=stamp(NOW - 60))  # fmt: skip
    redis.set(f"asynq:servers:{key}", info.SerializeToString())
    redis.zadd("asynq:servers", {f"asynq:servers:{key}": until})
    redis.zadd("asynq:workers", {f"asynq:workers:{key}": until})
    for each in tasks:
        redis.hset(f"asynq:workers:{key}", each.task_id, each.SerializeToString())


def test_workers_with_what_they_run(redis: Any, broker: Any) -> None:
    running = WorkerInfo(host="h", pid=2, server_id="id2", task_id="a", task_type="t", queue="q",
                         task_payload=b"p", start_time=stamp(NOW - 1),
                         deadline=stamp(GO_ZERO_SECONDS))  # fmt: skip
    server(redis, 2, running)
    server(redis, 1)
    server(redis, 3, until=NOW)
    server(redis, 4, until=NOW - 1)
    redis.zadd("asynq:servers", {"asynq:servers:{gone}": NOW + 9, "asynq:servers:{odd}": NOW + 9})
    redis.set("asynq:servers:{odd}", b"\xff")
    redis.hset("asynq:workers:{h:1:id1}", "x", b"\xff")
    found = AsynqRecords(broker).servers()
    assert [each.pid for each in found] == [1, 2, 3]
    assert found[0].active_tasks == ()
    assert found[1].active_tasks == (ActiveTask("a", "t", b"p", "q", at(NOW - 1), None),)
    assert (found[1].host, found[1].concurrency, found[1].status) == ("h", 4, "active")
    assert found[1].queues == {"q": 2}
    assert found[1].started_at == at(NOW - 60)
    assert not redis.zscore("asynq:servers", "asynq:servers:{h:4:id4}")
    assert not redis.zscore("asynq:workers", "asynq:workers:{h:4:id4}")
    redis.flushall()
    assert AsynqRecords(broker).servers() == []


def test_schedules_and_what_they_enqueued(redis: Any, broker: Any) -> None:
    entries = [
        SchedulerEntry(id="e2", spec="@every 2s", task_type="t", task_payload=b"p",
                       enqueue_options=['Queue("q")'], next_enqueue_time=stamp(NOW + 2),
                       prev_enqueue_time=stamp(GO_ZERO_SECONDS)),
        SchedulerEntry(id="e1", spec="* * * * *", next_enqueue_time=stamp(NOW + 60),
                       prev_enqueue_time=stamp(NOW)),
    ]  # fmt: skip
    redis.zadd("asynq:schedulers", {"asynq:schedulers:{s}": NOW + 9})
    redis.lpush("asynq:schedulers:{s}", b"\xff", *(each.SerializeToString() for each in entries))
    found = AsynqRecords(broker).scheduler_entries()
    assert [each.id for each in found] == ["e1", "e2"]
    assert (found[0].previous_at, found[0].next_at) == (at(NOW), at(NOW + 60))
    assert found[1].previous_at is None
    assert found[1].options == ('Queue("q")',)
    for i in range(5):
        event = SchedulerEnqueueEvent(task_id=f"a{i}", enqueue_time=stamp(NOW + i))
        redis.zadd("asynq:scheduler_history:e1", {event.SerializeToString(): NOW + i})
    pages = [AsynqRecords(broker).scheduler_events("e1", page, 2) for page in (1, 2, 3, 4)]
    assert [[each.task_id for each in page] for page in pages] == [
        ["a4", "a3"], ["a2", "a1"], ["a0"], []
    ]  # fmt: skip
    assert pages[0][0].enqueued_at == at(NOW) + timedelta(seconds=4)
    redis.flushall()  # its events are no text
