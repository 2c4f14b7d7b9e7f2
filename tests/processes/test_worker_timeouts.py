"""Time-outs and deadlines to the millisecond."""

from __future__ import annotations

import asyncio
import os
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
        assert [row["reason"] for row in lab.attempts()] == ["timeout"] * 2


def test_it_takes_a_quarter_of_a_second_and_not_a_whole_one(lab: Any, q: Any) -> None:
    with lab.worker():
        # The best of some: the machine may be busy.
        for future in [q.options(timeout=0.25).submit(doze, 30) for _ in range(4)]:
            assert isinstance(future.exception(30), TaskTimeout)
        took = [int(row["finished_at"]) - int(row["started_at"]) for row in lab.attempts()]
        assert min(took) < 900, took


def test_the_time_that_a_process_needs_to_start_is_not_counted(lab: Any, q: Any) -> None:
    future = q.options(timeout=0.2).submit(nap, 0.01)
    with lab.worker(concurrency=1):
        assert future.result(30) == "slept"
        # The loop of coroutines starts when the first one comes.
        assert q.options(timeout=0.2).submit(doze, 0.01).result(30) == "slept"


def test_a_deadline_is_exact(lab: Any, q: Any) -> None:
    with lab.worker():
        q.submit(nap, 0).result(30)
        # Rounded up to a second it would be 950 ms later.
        now = datetime.now(timezone.utc).replace(microsecond=0)
        at = now + timedelta(seconds=2.05)
        future = q.options(deadline=at).submit(nap, 30)
        with pytest.raises(TaskTimeout, match="its deadline has passed"):
            future.result(30)
        [row] = lab.attempts(future.id)
        assert 0 <= int(row["finished_at"]) - at.timestamp() * 1000 + 5 < 900


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


def mark_and_block(path: str, seconds: float) -> Any:
    async def block() -> str:
        with open(path, "a") as file:
            file.write(f"{os.getpid()} ")
        time.sleep(seconds)
        return "done"

    return block


async def rest_beside(path: str) -> str:
    with open(path, "a") as file:
        file.write(f"{os.getpid()} ")
    await asyncio.sleep(1.5)
    return "rested"


@pytest.mark.parametrize("seconds", [3, pytest.param(3600, marks=pytest.mark.slow)])
def test_the_first_coroutine_of_a_worker_times_out_though_it_blocks_its_loop(
    lab: Any, seconds: int
) -> None:
    with lab.worker(kill_grace=0.5) as worker:
        for _ in range(3):  # the second and third begin in executors that took the place of another
            started = time.monotonic()
            task = lab.submit(mark_and_block(lab.mark_file("blocks"), seconds), timeout=1)
            assert isinstance(lab.error(task), TaskTimeout)
            assert time.monotonic() - started < 8
        assert len(set(lab.marks("blocks"))) == 3
        assert worker.alive


def test_a_blocked_loop_costs_its_neighbours_no_attempt_of_their_own(lab: Any) -> None:
    with lab.worker(kill_grace=0.5, concurrency=3):
        beside = lab.submit(rest_beside, lab.mark_file("beside"))
        quick = lab.submit(mark_and_block(lab.mark_file("quick"), 0))
        lab.wait_until(lambda: lab.marks("beside"))
        blocks = lab.submit(mark_and_block(lab.mark_file("blocks"), 3600), timeout=1)
        assert isinstance(lab.error(blocks), TaskTimeout)
        assert lab.value(beside) == "rested"
        assert lab.value(quick) == "done"
        assert lab.outcomes(quick) == ["completed"]
        assert lab.outcomes(beside) == ["interrupted", "completed"]
        assert lab.find(beside).lost == 0


def test_what_ended_before_the_loop_was_blocked_is_answered_at_once(lab: Any) -> None:
    async def end_and_block(path: str) -> str:
        async def block() -> None:
            time.sleep(3)

        asyncio.get_running_loop().call_soon(asyncio.ensure_future, block())
        return "ended"

    with lab.worker():
        started = time.monotonic()
        assert lab.value(lab.submit(end_and_block, "")) == "ended"
        assert time.monotonic() - started < 2.5
