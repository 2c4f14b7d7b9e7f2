"""Running messages: handlers of a worker, handlers in the store, policies."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

import nbqueue
from nbqueue.broker.new_tasks import EnqueueRequest
from nbqueue.errors import UsageError
from nbqueue.tasks.new_task import NewTask
from nbqueue.wire.messages import TaskMessage

KEY = "5b" * 32


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQUEUE_KEY", KEY)


@pytest.fixture
def worker(lab: Any) -> Any:
    return nbqueue.Worker(lab.server.url, concurrency=2, log=lab.folder / "handlers.log")


@pytest.fixture
def q(lab: Any) -> Any:
    client = nbqueue.connect(lab.server.url)
    yield client
    client.close()


def send(lab: Any, task_type: str, payload: bytes, **fields: Any) -> str:
    """Enqueue a message as a program in Go would; returns its id."""
    lab.count = getattr(lab, "count", 0) + 1
    task_id = f"message-{lab.count}"
    settings = {"retention": 600, "timeout": 60, **fields}
    message = TaskMessage(type=task_type, payload=payload, id=task_id, queue="default", **settings)
    lab.broker.enqueue(EnqueueRequest("default", [NewTask(task_id, message.SerializeToString())]))
    return task_id


def result(lab: Any, task_id: str) -> bytes | None:
    record = lab.wait_for(task_id)
    assert record.state == "completed", record.message.error_msg
    value: bytes | None = record.result
    return value


def test_a_handler_gets_the_message_and_its_return_is_the_result(lab: Any, worker: Any) -> None:
    @worker.handle("email:deliver")
    def deliver(task: nbqueue.Task) -> dict[str, Any]:
        return {"user": task.json()["user"], "id": task.id, "try": task.attempt, **task.headers}

    with worker:
        task = send(lab, "email:deliver", b'{"user":7}', headers={"trace": "é"})
        assert json.loads(result(lab, task)) == {"user": 7, "id": task, "try": 1, "trace": "é"}
        [row] = lab.attempts(task)
        assert (row["type"], row["outcome"]) == ("email:deliver", "completed")


@pytest.mark.parametrize(
    ("value", "stored"),
    [(b"\x00\xff", b"\x00\xff"), (None, b""), ("ü", '"ü"'.encode()), ([1, 2.5], b"[1,2.5]")],
)
def test_bytes_are_kept_as_they_are_and_the_rest_as_json(
    lab: Any, worker: Any, value: Any, stored: bytes
) -> None:
    worker.handle("give", lambda task: value)
    with worker:
        assert result(lab, send(lab, "give", b"")) == stored


def test_what_json_cannot_say_fails_without_a_retry(lab: Any, worker: Any) -> None:
    worker.handle("give", lambda task: {1, 2})
    with worker:
        record = lab.wait_for(send(lab, "give", b"", retry=5))
        assert record.state == "archived"
        assert "not JSON serializable" in record.message.error_msg


def test_the_exact_pattern_goes_first_then_the_longest_prefix(lab: Any, worker: Any) -> None:
    for pattern in ("img", "img:resize", "img:resize:big"):
        worker.handle(pattern, lambda task, pattern=pattern: pattern)
    with worker:
        for task_type, pattern in {
            "img": "img",
            "imgx": "img",
            "img:resize": "img:resize",
            "img:resize:bigger": "img:resize:big",
            "img:resize:small": "img:resize",
        }.items():
            assert json.loads(result(lab, send(lab, task_type, b""))) == pattern


def test_a_message_that_nobody_handles_is_retried_as_asynq_does(lab: Any, worker: Any) -> None:
    worker.handle("known", lambda task: None)
    with worker:
        record = lab.wait_for(send(lab, "unknown", b"", retry=25), "retry")
        assert record.message.error_msg == 'handler not found for task "unknown"'
        assert record.message.retried == 1


def test_coroutine_handlers_run_together(lab: Any, worker: Any) -> None:
    @worker.handle("wait")
    async def wait(task: nbqueue.Task) -> int:
        await asyncio.sleep(0.5)
        return os.getpid()

    worker = nbqueue.Worker(lab.server.url, concurrency=20, log=lab.folder / "log")
    worker.handle("wait", wait)
    with worker:
        tasks = [send(lab, "wait", b"") for _ in range(20)]
        pids = {result(lab, task) for task in tasks}
        assert len(pids) == 1
        starts = [int(row["started_at"]) for row in lab.attempts()]
        assert max(starts) - min(starts) < 400


def test_middleware_wraps_handlers_the_first_outermost(lab: Any, worker: Any) -> None:
    def named(name: str) -> Callable[[Any], Any]:
        def middleware(handler: Any) -> Any:
            def wrapped(task: nbqueue.Task) -> str:
                return f"{name}({handler(task)})"

            return wrapped

        return middleware

    worker.use(named("outer"), named("inner")).handle("x", lambda task: task.type)
    with worker:
        assert json.loads(result(lab, send(lab, "x", b""))) == "outer(inner(x))"


def test_async_middleware_wraps_coroutine_handlers(lab: Any, worker: Any) -> None:
    def middleware(handler: Any) -> Any:
        async def wrapped(task: nbqueue.Task) -> str:
            return "around " + await handler(task)

        return wrapped

    async def handler(task: nbqueue.Task) -> str:
        return "core"

    worker.use(middleware).handle("x", handler)
    with worker:
        assert json.loads(result(lab, send(lab, "x", b""))) == "around core"


def test_start_hooks_run_once_in_each_executor_and_stop_hooks_at_its_end(
    lab: Any, worker: Any
) -> None:
    path = lab.mark_file("hooks")

    def note(word: str) -> None:
        with open(path, "a") as file:
            file.write(f"{word}-{os.getpid()} ")

    @worker.on_start
    def start() -> None:
        note("start")

    @worker.on_stop
    async def stop() -> None:
        note("stop")

    worker.handle("pid", lambda task: os.getpid())
    with worker:
        pids = {result(lab, send(lab, "pid", b"")).decode() for _ in range(20)}
    said = lab.marks("hooks")
    assert len(said) == len(set(said))
    assert {f"start-{pid}" for pid in pids} <= set(said)
    lab.wait_until(lambda: {f"stop-{pid}" for pid in pids} <= set(lab.marks("hooks")))


def test_a_start_hook_that_fails_is_told_and_ends_the_worker(lab: Any, worker: Any) -> None:
    @worker.on_start
    def start() -> None:
        raise RuntimeError("no database")

    worker.handle("x", lambda task: None)
    worker.start()
    send(lab, "x", b"")
    lab.wait_until(lambda: not worker.is_running)
    worker.stop()
    assert "no database" in (lab.folder / "handlers.log").read_text()
    assert lab.pending() == ["message-1"]


def test_the_error_hook_hears_of_each_failed_attempt(lab: Any, worker: Any) -> None:
    path = lab.mark_file("errors")

    @worker.on_error
    def on_error(task: nbqueue.Task, error: BaseException) -> None:
        with open(path, "a") as file:
            file.write(f"{task.type}:{error} ")

    def fail(task: nbqueue.Task) -> None:
        raise ValueError("bad")

    worker.handle("x", fail)
    with worker:
        lab.wait_for(send(lab, "x", b""))
        lab.wait_for(lab.submit(int, "seven"))
    assert lab.marks("errors")[0] == "x:bad"
    assert len(lab.marks("errors")) > 1


def test_a_running_worker_takes_up_a_handler_served_from_elsewhere(
    lab: Any, worker: Any, q: Any
) -> None:
    worker.handle("a", lambda task: "worker's")
    with worker:

        @q.serve("a:special")
        def special(task: nbqueue.Task) -> str:
            return "served " + task.payload.decode()

        def serves(word: str) -> bool:
            return json.loads(result(lab, send(lab, "a:special", b"x"))) == word

        # News of a change takes its own way to the worker: a task may come a moment before it.
        lab.wait_until(lambda: serves("served x"), 2)
        assert json.loads(result(lab, send(lab, "a:other", b"x"))) == "worker's"
        q.serve("a:special", lambda task: "replaced")
        lab.wait_until(lambda: serves("replaced"), 2)
        assert q.unserve("a:special") is True
        assert q.unserve("a:special") is False
        lab.wait_until(lambda: serves("worker's"), 2)
    with nbqueue.Worker(lab.server.url, concurrency=1, log=lab.folder / "log"):
        q.serve("late", lambda task: 1)
        assert result(lab, send(lab, "late", b"")) == b"1"


def test_a_served_handler_that_nobody_signed_is_not_run(lab: Any, worker: Any, q: Any) -> None:
    q.serve("x", lambda task: "honest")
    key = "nbqueue:{default}:handlers"
    envelope = bytearray(lab.redis.hget(key, "x"))
    lab.redis.hset(key, "y", bytes(envelope))  # under another name
    envelope[-1] ^= 1
    lab.redis.hset(key, "x", bytes(envelope))
    with worker:
        for task_type in ("x", "y"):
            record = lab.wait_for(send(lab, task_type, b"", retry=1), "retry")
            assert "handler not found" in record.message.error_msg
    assert (lab.folder / "handlers.log").read_text().count("handler refused") >= 2


def fail_with(name: str) -> None:
    raise {"ValueError": ValueError, "KeyError": KeyError}[name](name)


def due_after(lab: Any, task_id: str) -> float:
    """Seconds from the failure to the retry."""
    lab.wait_for(task_id, "retry")
    [row] = lab.attempts(task_id)
    due = int(lab.redis.hget(f"asynq:{{default}}:t:{task_id}", "nbq:due"))
    return (due - int(row["finished_at"])) / 1000


@pytest.mark.parametrize(
    ("retry_delay", "seconds"),
    [("2m", 120), ([30, 60], 30), (lambda n, error, task: 7 + n + len(str(error)), 17)],
)
def test_a_task_says_how_long_to_wait_before_a_retry(
    lab: Any, worker: Any, q: Any, retry_delay: Any, seconds: float
) -> None:
    with worker:
        f = q.options(retry=2, retry_delay=retry_delay).submit(fail_with, "ValueError")
        assert due_after(lab, f.id) == pytest.approx(seconds, abs=0.2)


def test_a_list_of_delays_is_followed_and_its_last_repeats(lab: Any, worker: Any, q: Any) -> None:
    with worker:
        f = q.options(retry=3, retry_delay=[0.1, 0.4]).submit(fail_with, "ValueError")
        with pytest.raises(ValueError, match="ValueError"):
            f.result(20)
        starts = [int(row["started_at"]) for row in lab.attempts(f.id)]
        gaps = [b - a for a, b in itertools.pairwise(starts)]
        assert len(gaps) == 3
        assert gaps[0] < gaps[1]
        assert 350 < gaps[2] < 1500


def test_only_the_named_errors_are_tried_again(lab: Any, worker: Any, q: Any) -> None:
    with worker:
        picky = q.options(retry=2, retry_delay="1h", retry_on=(KeyError, OSError))
        lab.wait_for(picky.submit(fail_with, "KeyError").id, "retry")
        with pytest.raises(ValueError, match="ValueError"):
            picky.submit(fail_with, "ValueError").result(20)


def test_a_worker_has_a_policy_for_tasks_that_have_none(lab: Any, q: Any) -> None:
    worker = nbqueue.Worker(
        lab.server.url,
        concurrency=1,
        log=lab.folder / "log",
        retry_delay=50,
        is_failure=lambda error: not isinstance(error, KeyError),
    )
    with worker:
        f = q.options(retry=1).submit(fail_with, "ValueError")
        assert due_after(lab, f.id) == pytest.approx(50, abs=0.2)
        own = q.options(retry=1, retry_delay=20).submit(fail_with, "ValueError")
        assert due_after(lab, own.id) == pytest.approx(20, abs=0.2)
        lenient = q.options(retry=1).submit(fail_with, "KeyError")
        record = lab.wait_for(lenient.id, "retry")
        assert record.message.retried == 0  # no failure: no retry is used up


def test_a_policy_that_fails_itself_leaves_the_default(lab: Any, worker: Any, q: Any) -> None:
    with worker:
        f = q.options(retry=1, retry_delay=lambda *args: 1 / 0).submit(fail_with, "ValueError")
        assert due_after(lab, f.id) < 2


def test_wrong_handlers_and_policies_are_refused_at_once(worker: Any, q: Any) -> None:
    worker.handle("a", lambda task: None)
    for wrong in (
        lambda: worker.handle("a", lambda task: None),
        lambda: worker.handle(" ", lambda task: None),
        lambda: worker.handle("b", 3),
        lambda: worker.use("no function"),
        lambda: q.serve("", lambda task: None),
        lambda: q.options(retry_delay="soon"),
        lambda: q.options(retry_delay=[]),
        lambda: q.options(retry_on=ValueError("an instance")),
        lambda: nbqueue.Worker(is_failure=3),
    ):
        with pytest.raises(UsageError):
            wrong()
