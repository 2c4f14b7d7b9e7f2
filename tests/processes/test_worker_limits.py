"""Time-outs and deadlines to the millisecond."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import nbqueue
from nbqueue.errors import TaskTimeout

KEY = "5b" * 32


@pytest.fixture
def q(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NBQUEUE_KEY", KEY)
    client = nbqueue.connect(lab.server.url)
    yield client
    client.close()


def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


async def doze(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_a_timeout_of_a_quarter_of_a_second_ends_the_task(lab: Any, q: Any, executor: str) -> None:
    with lab.worker(executor=executor, kill_grace=0.3):
        limited = q.options(timeout=0.25)
        for fn in (nap, doze):
            with pytest.raises(TaskTimeout, match=r"timed out after 0\.25s"):
                limited.submit(fn, 30).result(30)
        rows = lab.attempts()
        assert [row["reason"] for row in rows] == ["timeout"] * 2
        for row in rows:
            assert int(row["finished_at"]) - int(row["started_at"]) < 900 or executor == "thread"


def test_the_time_that_a_process_needs_to_start_is_not_counted(lab: Any, q: Any) -> None:
    future = q.options(timeout=0.2).submit(nap, 0.01)
    with lab.worker(concurrency=1):
        assert future.result(30) == "slept"
        # The loop of coroutines starts when the first one comes.
        assert q.options(timeout=0.2).submit(doze, 0.01).result(30) == "slept"


def test_a_deadline_is_exact(lab: Any, q: Any) -> None:
    with lab.worker():
        q.submit(nap, 0).result(30)
        at = datetime.now(timezone.utc) + timedelta(seconds=0.4)
        future = q.options(deadline=at).submit(nap, 30)
        with pytest.raises(TaskTimeout, match="its deadline has passed"):
            future.result(30)
        [row] = lab.attempts(future.id)
        assert abs(int(row["finished_at"]) - at.timestamp() * 1000) < 600


def test_a_deadline_ends_a_task_whose_process_does_not_get_ready(lab: Any, q: Any) -> None:
    worker = nbqueue.Worker(lab.server.url, concurrency=1, kill_grace=0.3, log=lab.folder / "h.log")
    worker.on_start(lambda: nap(30))
    with worker:
        at = datetime.now(timezone.utc) + timedelta(seconds=1)
        future = q.options(deadline=at).submit(nap, 0)
        with pytest.raises(TaskTimeout, match="its deadline has passed"):
            future.result(20)


def test_a_message_has_exact_limits_and_its_handler_does_not_see_how(lab: Any, q: Any) -> None:
    worker = nbqueue.Worker(lab.server.url, concurrency=1, log=lab.folder / "messages.log")
    worker.handle("slow", lambda task: nap(task.json()))
    worker.handle("look", lambda task: [task.headers, task.deadline is not None])
    with worker:
        found = q.enqueue("look", timeout=2.5, headers={"a": "b"}, retention=60)
        assert found.result(30) == [{"a": "b"}, True]
        with pytest.raises(TaskTimeout, match=r"timed out after 0\.25s"):
            q.enqueue("slow", 30, timeout=0.25, retry=0).result(30)
