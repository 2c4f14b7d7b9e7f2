"""Workers that are paused past their leases: what others completed meanwhile does not begin."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from waits import let_time_pass

LEASE = 1.5
TASKS = 12


def mark(path: str, seconds: float) -> int:
    """Leave a mark of the run, and take a while."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()} ")
    threading.Event().wait(seconds)
    return os.getpid()


async def mark_in_a_loop(path: str, seconds: float) -> int:
    with open(path, "a") as file:
        file.write(f"{os.getpid()} ")
    await asyncio.sleep(seconds)
    return os.getpid()


def send(pids: list[int], number: int) -> None:
    for pid in pids:
        os.kill(pid, number)


@pytest.mark.parametrize(
    ("kind", "whole"),
    [
        ("process", False),
        ("loop", True),
        pytest.param("process", True, marks=pytest.mark.slow),
        pytest.param("thread", False, marks=pytest.mark.slow),
        pytest.param("thread", True, marks=pytest.mark.slow),
        pytest.param("loop", False, marks=pytest.mark.slow),
    ],
)
def test_nothing_begins_twice_after_a_pause(lab: Any, kind: str, whole: bool) -> None:
    fn: Callable[..., Any] = mark_in_a_loop if kind == "loop" else mark
    executor = "process" if kind == "loop" else kind
    with lab.worker(executor=executor, concurrency=1, lease=LEASE) as first:
        # Short ones first, so that more are fetched ahead than there are slots. Executors that are
        # not paused are busy until the lease is over: until then they may begin tasks.
        lab.wait_for_all(lab.submit_many(fn, [(lab.mark_file("warm"), 0)] * 300))
        slow = lab.submit(fn, lab.mark_file("slow"), 0.5 if whole else LEASE + 1)
        tasks = [slow, *lab.submit_many(fn, [(lab.mark_file("runs"), 0)] * TASKS)]
        lab.wait_until(lambda: lab.marks("slow"))
        send([first.pid, *(first.executors() if whole else ())], signal.SIGSTOP)
        with lab.worker(executor=executor, concurrency=2, lease=LEASE):
            lab.wait_for_all(tasks)
            send([*first.executors(), first.pid], signal.SIGCONT)
            after = lab.submit_many(fn, [(lab.mark_file("after"), 0)] * 100)
            lab.wait_for_all(after)
            assert len(lab.marks("runs")) == TASKS
            assert len(lab.marks("after")) == 100
        # It is as well as before.
        assert lab.value(lab.submit(fn, lab.mark_file("last"), 0)) in first.executors()


def test_what_was_paused_and_is_still_its_own_runs_without_another_attempt(lab: Any) -> None:
    with lab.worker(concurrency=1, lease=LEASE) as worker:
        lab.wait_for_all(lab.submit_many(mark, [(lab.mark_file("warm"), 0)] * 300))
        tasks = lab.submit_many(mark, [(lab.mark_file("runs"), 0.1)] * 10)
        lab.wait_until(lambda: lab.marks("runs"))
        pids = [worker.pid, *worker.executors()]
        send(pids, signal.SIGSTOP)
        let_time_pass(LEASE * 1.2)
        send(pids, signal.SIGCONT)
        lab.wait_for_all(tasks)
        assert len(lab.marks("runs")) == 10


@pytest.mark.slow
def test_tasks_wait_for_an_executor_that_starts_for_longer_than_a_lease(lab: Any) -> None:
    from nbqueue.worker.worker import Worker

    worker = Worker(lab.url, concurrency=1, lease=1)
    worker.on_start(lambda: threading.Event().wait(2.5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBQUEUE_KEY", "5b" * 32)
        with worker:
            tasks = [lab.submit(mark, lab.mark_file("runs"), 0) for _ in range(3)]
            tasks.append(lab.submit(mark_in_a_loop, lab.mark_file("runs"), 0))
            for task in tasks:
                assert lab.value(task)
                assert lab.outcomes(task) == ["completed"]
