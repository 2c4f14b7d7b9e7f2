"""Sharing a store with programs in Go, which fetch, retry, archive and delete messages."""

from __future__ import annotations

import concurrent.futures
import pickle
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asynq_peer import AsynqPeer
from go_server import GoServer
from thread_worker import ThreadWorker
from waits import let_time_pass, wait_until

import nbqueue
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands import maintenance
from nbqueue.broker.commands.failure import Failure, Who
from nbqueue.calls import payloads
from nbqueue.calls.exceptions import dump_exception
from nbqueue.client.cancelling import tasks_in_go
from nbqueue.client.client import Client
from nbqueue.errors import TaskCancelled, TaskFailed, TaskNotFound
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import TaskMessage
from nbqueue.worker.worker import Worker

KEYS = queue_keys("default")
NOW = int(time.time())


@pytest.fixture
def go(redis: Any) -> AsynqPeer:
    return AsynqPeer(redis, "default")


@pytest.fixture
def worker(store_url: str, client: Client) -> Iterator[ThreadWorker]:
    found = ThreadWorker(store_url)
    yield found
    found.close()


def stored(redis: Any, task_id: str) -> TaskMessage:
    return TaskMessage.FromString(redis.hget(KEYS.task(task_id), "msg"))


def fail_here(worker: ThreadWorker, text: str, *, archive: bool = False) -> None:
    """Fetch a task with a worker of nbqueue, and have it retried now, or archived."""
    [held] = worker.fetch()
    if archive:
        worker.fail(held, ValueError(text))
        return
    now_ms = worker.broker.clock.now_ms()
    failure = Failure(
        held.message.id, held.fence, held.message.type, 1, now_ms, 1, "error", 0, text
    )
    msg = failure_commands.failed_message(held.msg, text, now_ms, counts=True)
    body = payloads.pack_result(payloads.EXCEPTION, dump_exception(ValueError(text)))
    signed = worker.keys.sign_result(body, held.message.id)
    due_ms = now_ms - 5_000
    retry = failure_commands.retry(
        "default", failure, msg, due_ms, now_ms, Who("w", "h"), error=signed
    )
    assert worker.broker.run(retry)
    assert worker.broker.run(maintenance.forward("default", now_ms)).moved == 1


def fail_in_go(go: AsynqPeer, redis: Any, text: str, *, archive: bool = False) -> None:
    msg = go.dequeue(NOW)
    assert msg is not None
    message = TaskMessage.FromString(msg)
    message.error_msg, message.last_failed_at = text, int(time.time())
    if archive:
        go.archive(message.id, message.SerializeToString(), int(time.time()))
        return
    message.retried += 1
    go.retry(message.id, message.SerializeToString(), NOW - 60)
    assert go.forward(NOW) == 1


# --- The last error ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_waiting", [True, False])
def test_the_last_error_is_that_of_go(
    client: Client, redis: Any, go: AsynqPeer, worker: ThreadWorker, is_waiting: bool
) -> None:
    future = client.enqueue("t", name="mine")
    fail_here(worker, "here")
    fail_in_go(go, redis, "in Go", archive=True)
    if is_waiting:
        with pytest.raises(TaskFailed, match="in Go"):
            future.result(5)
    again = client.get("mine")
    assert isinstance(again.exception(0), TaskFailed)
    assert "in Go" in str(again.exception(0))
    row = client.tasks(columns=["error", "exception", "attempt"]).loc[future.id]
    assert row["error"] == "in Go"
    assert isinstance(row["exception"], TaskFailed)
    assert "in Go" in str(row["exception"])
    assert row["attempt"] == 2
    assert "in Go" in client.get("mine")._repr_mimebundle_()["text/plain"]


def test_the_last_error_is_that_of_nbqueue(
    client: Client, redis: Any, go: AsynqPeer, worker: ThreadWorker
) -> None:
    future = client.enqueue("t")
    fail_here(worker, "first")
    fail_in_go(go, redis, "in Go")
    fail_here(worker, "here again", archive=True)
    assert isinstance(future.exception(5), ValueError)
    error = client.get(future.id).exception(0)
    assert isinstance(error, ValueError)
    assert str(error) == "here again"
    assert isinstance(client.tasks(columns=["exception"]).loc[future.id, "exception"], ValueError)


def test_an_error_of_go_is_that_of_a_task_which_is_archived_by_hand(
    client: Client, redis: Any, go: AsynqPeer, worker: ThreadWorker
) -> None:
    future = client.enqueue("t")
    fail_here(worker, "here")
    fail_in_go(go, redis, "in Go")
    client.inspector.archive([future.id])
    with pytest.raises(TaskFailed, match="in Go"):
        future.result(5)


def test_an_error_here_is_that_of_a_task_which_is_archived_by_hand(
    client: Client, redis: Any, go: AsynqPeer, worker: ThreadWorker
) -> None:
    future = client.enqueue("t")
    fail_in_go(go, redis, "in Go")
    fail_here(worker, "here")
    client.inspector.archive([future.id])
    with pytest.raises(ValueError, match="here"):
        future.result(5)


def test_what_go_completed_has_no_error(
    client: Client, redis: Any, go: AsynqPeer, worker: ThreadWorker
) -> None:
    future = client.enqueue("t", retention="1h")
    fail_here(worker, "here")
    msg = go.dequeue(NOW)
    assert msg is not None
    redis.hset(KEYS.task(future.id), "result", b"7")
    go.complete(future.id, msg, NOW + 3600)
    assert (future.result(5), future.exception(0)) == (7, None)
    assert client.get(future.id).exception(0) is None
    assert client.tasks(columns=["exception"]).loc[future.id, "exception"] is None


# --- Attempts ------------------------------------------------------------------------------------


def test_attempts_in_go_are_counted(
    client: Client, redis: Any, go: AsynqPeer, store_url: str
) -> None:
    worker = Worker(store_url, executor="thread", concurrency=1)

    @worker.handle("t")
    def handle(task: nbqueue.Task) -> int:
        if task.attempt == 2:
            raise ValueError("no")
        if task.attempt == 3:
            raise nbqueue.RetryLater(0)
        return task.attempt

    future = client.enqueue("t", retention="1h")
    fail_in_go(go, redis, "in Go")
    assert client.get(future.id).attempt == 1
    worker.start()
    try:
        wait_until(lambda: redis.zcard(KEYS.retry) == 1)
        client.inspector.run([future.id])
        assert future.result(20) == 4
    finally:
        worker.stop()
    assert list(client.attempts()["attempt"]) == [2, 3, 4]
    assert client.get(future.id).attempt == 4
    assert client.tasks(columns=["attempt"]).loc[future.id, "attempt"] == 4


# --- Ends ----------------------------------------------------------------------------------------


def test_results_of_go_come_within_a_second(client: Client, redis: Any) -> None:
    late: list[float] = []
    server = GoServer(redis, "default", lambda message, _: b"1")
    with server.running():
        for _ in range(7):
            future = client.enqueue("t", retention="1h")
            assert future.result(10) == 1
            late.append(time.monotonic() - server.finished[future.id])
    assert statistics.median(late) < 1.0


@pytest.mark.parametrize(
    "count", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 100)), 5_000]
)
def test_all_that_is_waited_for_is_looked_at_by_one_command_for_each_queue_a_second(
    client: Client, redis: Any, count: int
) -> None:
    futures = [client.enqueue("t", retention="1h") for _ in range(count)]
    client.enqueue("t", queue="other")

    def looks() -> tuple[int, int]:
        """Return the commands that came over connections, and the microseconds of all scripts."""
        stats = redis.info("commandstats")
        micros = stats.get("cmdstat_evalsha", {}).get("usec", 0)
        return stats.get("cmdstat_evalsha", {}).get("calls", 0), micros

    wait_until(lambda: futures[-1].state == "pending")
    calls, micros = looks()
    begun = time.monotonic()
    let_time_pass(4.0)  # the number of looks in this time is measured
    seconds = time.monotonic() - begun
    more, then = looks()
    queues = 2
    assert 1 <= (more - calls) / queues <= seconds + 2
    assert (then - micros) / (more - calls) < 30_000, "a look keeps Redis for too long"
    # One in the midst of them ends.
    go, chosen = AsynqPeer(redis, "default"), futures[count // 2]
    redis.lrem(KEYS.pending, 0, chosen.id)
    redis.lpush(KEYS.pending, chosen.id)
    redis.execute_command("LMOVE", KEYS.pending, KEYS.pending, "LEFT", "RIGHT")
    msg = go.dequeue(NOW)
    assert msg is not None
    go.complete(chosen.id, msg, NOW + 3600)
    begun = time.monotonic()
    assert chosen.result(5) is None
    assert time.monotonic() - begun < 2.0


# --- What is gone --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["waiting", "attached", "pickled"])
def test_a_message_that_would_be_kept_and_is_gone_was_deleted(
    client: Client, redis: Any, how: str
) -> None:
    future = client.enqueue("t", retention="1h")
    if how == "attached":
        future = nbqueue.connect(client.url).get(future.id)
    elif how == "pickled":
        data = pickle.dumps(future)
        client.close()
        future = pickle.loads(data)
    redis.lrem(KEYS.pending, 0, future.id)
    redis.delete(KEYS.task(future.id))
    with pytest.raises(TaskNotFound, match="deleted"):
        future.result(5)
    assert future.state == "deleted"


def test_a_message_that_is_kept_for_no_time_and_is_gone_is_done(client: Client, redis: Any) -> None:
    future = client.enqueue("t")
    redis.lrem(KEYS.pending, 0, future.id)
    redis.delete(KEYS.task(future.id))
    assert future.result(5) is None


def test_a_task_whose_group_go_aggregated_says_so(
    client: Client, redis: Any, go: AsynqPeer
) -> None:
    futures = [client.enqueue("t", group="g") for _ in range(3)]
    assert futures[0].state == "aggregating"
    assert go.check_group("g", "set", int(time.time()) + 100, grace=1)
    # A new task is enqueued first, whose id nothing names (section H.1, 17).
    message = TaskMessage(type="all", id="new", queue="default", timeout=9)
    go.enqueue("new", message.SerializeToString(), 1)
    go.delete_set("g", "set")
    for future in futures:
        with pytest.raises(TaskNotFound, match=r"aggregat.*Go"):
            future.result(5)


# --- Cancelling ----------------------------------------------------------------------------------


def until_cancelled(message: TaskMessage, context: threading.Event) -> bytes | None:
    context.wait(20)
    return None


def running_in_go(client: Client, redis: Any, **options: Any) -> Any:
    future = client.enqueue("t", **options)
    wait_until(lambda: future.state == "active")
    assert future.running()
    return future


def test_a_task_that_runs_in_go_is_cancelled(client: Client, redis: Any) -> None:
    with GoServer(redis, "default", until_cancelled).running():
        future = running_in_go(client, redis)
        assert future.cancel()
        assert future.cancelled()
        with pytest.raises(TaskCancelled):
            future.result(0)
        assert future.state == "archived"
        assert redis.zscore(KEYS.archived, future.id) is not None
        assert redis.zcard(KEYS.retry) == 0


def test_a_task_that_go_completed_meanwhile_is_not_cancelled(client: Client, redis: Any) -> None:
    finish = threading.Event()

    def handle(message: TaskMessage, context: threading.Event) -> bytes:
        finish.wait(20)
        context.clear()  # it came too late
        return b"5"

    with GoServer(redis, "default", handle).running():
        future = running_in_go(client, redis, retention="1h")
        threading.Timer(0.3, finish.set).start()
        assert future.cancel() is False
        assert (future.cancelled(), future.result(0)) == (False, 5)


def test_a_handler_in_go_that_takes_its_time_ends_cancelled(
    client: Client, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_in_go, "CANCEL_SECONDS", 0.1)
    monkeypatch.setattr("nbqueue.client.futures.future.CANCEL_SECONDS", 0.1)
    finish = threading.Event()

    def handle(message: TaskMessage, context: threading.Event) -> None:
        finish.wait(20)

    with GoServer(redis, "default", handle).running():
        future = running_in_go(client, redis)
        assert future.cancel() is False
        assert future.state == "active"
        finish.set()
        with pytest.raises(TaskCancelled):
            future.result(5)


def test_workers_cancel_what_a_client_cancelled_that_is_gone(
    client: Client, redis: Any, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_in_go, "CANCEL_SECONDS", 0.05)
    monkeypatch.setattr("nbqueue.client.futures.future.CANCEL_SECONDS", 0.05)
    finish = threading.Event()

    def handle(message: TaskMessage, context: threading.Event) -> None:
        finish.wait(20)

    with GoServer(redis, "default", handle).running():
        future = running_in_go(client, redis)
        assert future.cancel() is False
        client.close()
        finish.set()
        wait_until(lambda: redis.zscore(KEYS.retry, future.id) is not None)
        worker = Worker(store_url, queues={"elsewhere": 1}, executor="thread")
        worker.start()
        try:
            wait_until(lambda: redis.zscore(KEYS.archived, future.id) is not None)
            wait_until(lambda: not redis.exists(KEYS.cancels))
        finally:
            worker.stop()
    with nbqueue.connect(store_url) as other:
        assert other.get(future.id).cancelled()


def test_an_inspector_cancels_what_runs_in_go(client: Client, redis: Any) -> None:
    with GoServer(redis, "default", until_cancelled).running():
        future = running_in_go(client, redis)
        with nbqueue.connect(client.url) as other:
            assert other.inspector.cancel([future.id]).done == [future.id]
        with pytest.raises(TaskCancelled):
            future.result(5)


# --- Queues that were removed --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["submit", "message", "map"])
def test_the_next_task_names_a_queue_that_was_removed(
    client: Client, redis: Any, go: AsynqPeer, how: str
) -> None:
    send = {
        "submit": lambda: client.submit(len, "ab"),
        "message": lambda: client.enqueue("t"),
        "map": lambda: client.map(len, ["a", "b"]),
    }[how]
    for _ in range(3):
        send()
        let_time_pass(0.003)  # as long as it takes to remove it, and more
        assert go.remove_queue(force=True)
        assert redis.smembers("asynq:queues") == set()
        send()
        assert redis.smembers("asynq:queues") == {b"default"}


def test_the_next_task_names_a_queue_that_an_inspector_removed(
    client: Client, redis: Any, store_url: str
) -> None:
    client.enqueue("t")
    with nbqueue.connect(store_url) as other:
        other.inspector.remove_queue("default", force=True)
    assert redis.smembers("asynq:queues") == set()
    client.enqueue("t")
    assert redis.smembers("asynq:queues") == {b"default"}


# --- What is asked for ---------------------------------------------------------------------------


def test_filters_take_patterns_or_say_that_they_do_not(client: Client) -> None:
    ids = {
        name: client.enqueue(name, queue=queue).id
        for name, queue in (
            ("send:a:q", "mail"), ("send:b", "mail"), ("s%d*q", "news"), ("other", "news"),
            ("sq", "news"),
        )
    }  # fmt: skip

    def found(**filters: Any) -> set[str]:
        return {name for name, i in ids.items() if i in set(client.tasks(**filters).index)}

    assert found(type="s*q") == {"send:a:q", "s%d*q", "sq"}
    assert found(type="s*:*") == {"send:a:q", "send:b"}
    assert found(type="*") == set(ids)
    assert found(type=["*:b", "other"]) == {"send:b", "other"}
    assert found(type="s%*q") == {"s%d*q"}
    with pytest.warns(nbqueue.UnknownNameWarning, match="did you mean 'sq'"):
        assert found(type="s?q") == set()
    assert found(queue="ma*", type="*:*") == {"send:a:q", "send:b"}
    assert client.inspector.delete(queue="mail", state="pending", type="s*q").done == [
        ids["send:a:q"]
    ]
    with pytest.raises(nbqueue.UsageError, match=r"fits no queue; there are mail, news"):
        client.tasks(queue="x*")
    with pytest.raises(nbqueue.UsageError, match=r"names have no patterns"):
        client.tasks(name="se*")


# --- When it starts ------------------------------------------------------------------------------


def test_a_task_that_go_scheduled_never_starts_early(
    client: Client, redis: Any, go: AsynqPeer, store_url: str
) -> None:
    worker = Worker(store_url, executor="thread", concurrency=4)

    @worker.handle("t")
    def handle(task: nbqueue.Task) -> float:
        return time.time()

    client.enqueue("other", delay="1h")  # of nbqueue, in the same set
    worker.start()
    try:
        due = {f"go-{n}": time.time() + 0.4 + 0.3 * n for n in range(4)}
        for task_id, at in due.items():
            message = TaskMessage(
                type="t", id=task_id, queue="default", timeout=60, retention=600, retry=3
            )
            go.schedule(task_id, message.SerializeToString(), int(at))  # section H.1, 27
        for task_id, at in due.items():
            assert at <= client.get(task_id).result(20)
    finally:
        worker.stop()


# --- What state it is in -------------------------------------------------------------------------


def test_all_handles_tell_the_state_that_the_store_tells(
    client: Client, redis: Any, worker: ThreadWorker, store_url: str
) -> None:
    group = client.map(len, ["a", "bc"])
    with nbqueue.connect(store_url) as other:
        handles = [group.futures[0], other.get(group.ids[0]), pickle.loads(pickle.dumps(group[0]))]
        assert {handle.state for handle in handles} == {"pending"}
        held = worker.fetch(2)
        for handle in handles:
            wait_until(handle.running)
            assert " active" in repr(handle)
            with pytest.raises(concurrent.futures.TimeoutError, match="active"):
                handle.result(0.01)
            assert not handle.done()
        for each in held:
            worker.succeed(each, 1)
        for handle in handles:
            wait_until(lambda handle=handle: handle.state == "completed")
            assert (handle.done(), handle.running(), handle.result(0)) == (True, False, 1)


def test_the_state_is_known_while_go_works_on_it(client: Client, redis: Any, go: AsynqPeer) -> None:
    future = client.enqueue("t")
    seen = [future.state]
    msg = go.dequeue(NOW)
    assert msg is not None
    wait_until(lambda: future.state != "pending")
    seen.append(future.state)
    go.retry(future.id, msg, NOW + 99)
    wait_until(lambda: future.state != "active")
    seen.append(future.state)
    assert seen == ["pending", "active", "retry"]
    assert not future.running()


def test_a_state_is_told_while_the_store_is_asked_no_more(client: Client) -> None:
    future = client.enqueue("t")
    client.close()
    assert future.state in ("pending", "")
    assert future.id in repr(future)
