"""The blocking broker: its reads, and its recovery from a lost connection."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Stream, Zset, dump, encoded, load, message, task
from transitions import LEASE_MS, NOW, TOKEN, WHO, ended, failure, kept

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands import enqueue, lifecycle, maintenance
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands.lifecycle import token_fence
from nbqueue.broker.new_tasks import ENQUEUED, EnqueueRequest
from nbqueue.clock import Clock
from nbqueue.errors import StoreUnreachable
from nbqueue.store.connection import Store
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.topology import ANYWHERE
from nbqueue.wire.messages import TaskMessage


def new(task_id: str, **fields: Any) -> NewTask:
    return NewTask(task_id, encoded(task_id, **fields))


class Lossy:
    """A router whose connection is lost once, after the store did what it was asked."""

    number = 0

    def __init__(self, broker: Broker, then: Any = lambda: None) -> None:
        self._connection = broker._router.connection("q")
        self._then = then
        self._is_due = True

    def open(self) -> None:
        self._connection.open()

    def connection(self, place: Any) -> Any:
        return self

    def run(self, batch: Any, then: bytes = b"") -> Any:
        return self._lose_once(self._connection.run(batch, then))

    def run_packed(self, script: Any, data: bytes, then: bytes = b"") -> Any:
        return self._lose_once(self._connection.run_packed(script, data, then))

    def _lose_once(self, found: Any) -> Any:
        if self._is_due:
            self._is_due = False
            self._then()
            raise StoreUnreachable("lost")
        return found

    def call(self, *calls: Any) -> Any:
        return self._connection.call(*calls)

    def adapt(self, command: Any) -> Any:
        return command

    def close(self) -> None:
        self._connection.close()


def run_them(broker: Broker, store: Store, end: str) -> Any:
    """Let a worker on another connection handle the tasks at once."""

    def then() -> None:
        with_another = Broker(store)
        with_another.run(lifecycle.fetch("q", 9, NOW_MS, LEASE_MS, TOKEN))
        fence = token_fence(TOKEN)
        if end == "kept":
            with_another.run(lifecycle.complete("q", [kept("a", fence=fence)], NOW_MS, WHO))
        elif end == "retry":
            msg = failure_commands.failed_message(
                encoded("a", retention=60), "boom", NOW_MS, counts=True
            )
            with_another.run(
                failure_commands.retry("q", failure("a", fence=fence), msg, NOW_MS, NOW_MS, WHO)
            )
        elif end == "archived":
            msg = failure_commands.failed_message(
                encoded("a", retention=60), "boom", NOW_MS, counts=False
            )
            with_another.run(
                failure_commands.archive("q", failure("a", fence=fence), msg, NOW_MS, WHO)
            )
        with_another.close()

    return then


@pytest.mark.parametrize("end", ["active", "kept", "retry", "archived"])
def test_a_task_that_was_run_before_the_reply_came_is_no_conflict(
    broker: Broker, store: Store, redis: Any, end: str
) -> None:
    broker._router = Lossy(broker, run_them(broker, store, end))  # type: ignore[assignment]
    assert broker.enqueue(EnqueueRequest("q", [new("a", retention=60)])) == ENQUEUED
    assert "pending" not in dump(redis)


def test_after_a_lost_connection_the_id_of_another_task_is_still_a_conflict(
    broker: Broker, redis: Any
) -> None:
    broker.enqueue(EnqueueRequest("q", [new("b", payload=b"of somebody else")]))
    broker._router = Lossy(broker)  # type: ignore[assignment]
    assert broker.enqueue(EnqueueRequest("q", [new("a"), new("b"), new("c")])).conflicts == [1]
    assert dump(redis)["pending"] == ["c", "a", "b"]


def test_patience_ends(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*args: Any) -> Any:
        raise StoreUnreachable("lost")

    broker._patience = 0.05
    monkeypatch.setattr(broker._router.connection("q"), "run", lost)
    monkeypatch.setattr(broker._router.connection("q"), "call", lost)
    for attempt in (
        lambda: broker.enqueue(EnqueueRequest("q", [new("a")])),
        lambda: broker.run(maintenance.forward("q", 1)),
        broker.queues,
    ):
        with pytest.raises(StoreUnreachable):
            attempt()


def test_a_task_is_read_with_all_that_is_known_of_it(broker: Broker, redis: Any) -> None:
    more = {
        "result": b"r",
        "nbq:error": b"E",
        "nbq:due": NOW_MS,
        "nbq:attempt": 3,
        "nbq:lost": 1,
        "pending_since": 7,
    }
    load(redis, {"asynq:queues": {"p", "q"}, "retry": Zset(a=NOW), "t:a": task("a", "retry", more)})
    redis.hdel("asynq:{q}:t:a", "pending_since")
    found = broker.find("a")
    assert found is not None
    assert found == broker.find("a", "q")
    assert found.message == TaskMessage.FromString(encoded("a"))
    assert (found.queue, found.state, found.result, found.error) == ("q", "retry", b"r", b"E")
    assert (found.pending_since_ns, found.due_ms, found.attempt, found.lost) == (None, NOW_MS, 3, 1)
    assert broker.find("b") is None
    assert broker.find("a", "p") is None


def test_many_tasks_are_read_in_order_with_none_for_what_is_missing(broker: Broker) -> None:
    broker.enqueue(EnqueueRequest("q", [new(str(i)) for i in range(300)]))
    ids = [str(i) for i in range(299, -1, -2)] + ["missing", "1", "1"]
    records = broker.read("q", ids)
    assert [r.message.id if r else None for r in records] == [*ids[:-3], None, "1", "1"]
    states = broker.states("q", ids)
    assert states == ["pending"] * (len(ids) - 3) + [None, "pending", "pending"]
    assert broker.read("q", []) == []


def test_queues_are_those_of_the_store_by_name(broker: Broker, redis: Any) -> None:
    assert broker.queues() == []
    assert broker.find("a") is None
    redis.sadd("asynq:queues", "b", "a")
    assert broker.queues() == ["a", "b"]
    redis.delete("asynq:queues")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (None, range(5_000)),
        (3, range(4_997, 5_000)),
        (0, []),
        (2_000, range(3_000, 5_000)),
    ],
)
def test_attempts_come_oldest_first_and_the_newest_of_them(
    broker: Broker, redis: Any, limit: int | None, expected: Any
) -> None:
    load(redis, {"own:attempts": Stream({"task_id": str(i)} for i in range(5_000))})
    rows = broker.attempts("q", limit=limit)
    assert [row["task_id"] for row in rows] == [str(i) for i in expected]


def test_attempts_since_a_moment(broker: Broker, redis: Any) -> None:
    for at in (1_000, 2_000, 3_000):
        redis.xadd("nbqueue:{q}:attempts", {"task_id": str(at)}, id=f"{at}-1")
    assert [row["task_id"] for row in broker.attempts("q", since_ms=2_000)] == ["2000", "3000"]


def test_streams_are_capped(broker: Broker, redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "EVENT_CAP", 100)
    monkeypatch.setattr(lifecycle, "ATTEMPT_CAP", 100)
    for at in range(0, 1_000, 50):
        ids = [str(i) for i in range(at, at + 50)]
        for task_id in ids:
            broker.run(enqueue.enqueue("q", [new(task_id)], NOW_MS))
        broker.run(lifecycle.fetch("q", 50, NOW_MS, LEASE_MS, TOKEN))
        fence = token_fence(TOKEN)
        broker.run(lifecycle.complete("q", [ended(i, fence=fence) for i in ids], NOW_MS, WHO))
    assert 100 <= redis.xlen("nbqueue:{q}:events") <= 300
    assert 100 <= redis.xlen("nbqueue:{q}:attempts") <= 300


@pytest.mark.parametrize("what", ["new tasks", "calls"])
def test_the_clock_is_measured_on_the_way_now_and_then(
    broker: Broker, redis: Any, what: str
) -> None:
    def ask() -> int:
        """Return the number of measurements meanwhile."""
        redis.config_resetstat()
        for number in range(3):
            if what == "calls":
                assert broker.call(("ECHO", number), on=ANYWHERE) == [str(number).encode()]
            else:
                broker.enqueue(EnqueueRequest("q", [new(f"{broker.clock.now()}{number}")]))
        return int(redis.info("commandstats").get("cmdstat_time", {"calls": 0})["calls"])

    assert ask() <= 1  # a queue that it meets for the first time
    broker.clock = Clock(wall=lambda: 0.0)  # of 1970, and so old that it counts as never measured
    broker.forget_queue("q")
    assert ask() == 1
    seconds, micros = redis.time()
    assert broker.clock.now() == pytest.approx(seconds + micros / 1e6, abs=1.0)
    assert ask() == 0


def test_messages_survive_the_way_through_the_store(broker: Broker, redis: Any) -> None:
    broker.enqueue(EnqueueRequest("q", [new("a", headers={"k": "v"}, error_msg="é")]))
    assert dump(redis)["t:a"]["msg"] == message("a", headers={"k": "v"}, error_msg="é")
