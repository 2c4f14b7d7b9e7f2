"""`options(fresh=True)`: each attempt in a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

import nbqueue
from nbqueue.errors import TaskTimeout, UsageError, WorkerLost


@pytest.fixture(scope="module", params=["process", "thread"])
def served(request: pytest.FixtureRequest, shared_lab: Any) -> Iterator[Any]:
    """A client whose tasks go to a worker of each kind, and the worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBQUEUE_KEY", "5b" * 32)
        with (
            nbqueue.connect(shared_lab.url) as client,
            shared_lab.worker(
                executor=request.param, queues=[request.param], concurrency=2, kill_grace=0.5
            ) as worker,
        ):
            yield client.options(queue=request.param), worker


def touch(number: int = 0) -> tuple[int, int]:
    """Leave something behind; return the process and how much was there."""
    found = getattr(sys, "left_behind", 0)
    sys.left_behind = found + 1  # type: ignore[attr-defined]
    return os.getpid(), found


async def touch_in_a_loop(number: int = 0) -> tuple[int, int]:
    await asyncio.sleep(0)
    return touch()


@pytest.mark.parametrize("fn", [touch, touch_in_a_loop])
def test_each_fresh_task_has_a_process_of_its_own(served: Any, fn: Any) -> None:
    q, _ = served
    plain = {q.submit(touch).result(20)[0] for _ in range(3)}
    results = [
        *q.options(fresh=True).map(fn, range(5)),
        q.options(fresh=True).submit(fn).result(20),
    ]
    pids = [pid for pid, _ in results]
    assert len(set(pids)) == 6
    assert not plain & set(pids)
    assert {found for _, found in results} == {0}
    assert q.submit(touch).result(20)[1] > 0


def test_fresh_processes_end_and_take_no_more_slots_than_there_are(
    served: Any, shared_lab: Any
) -> None:
    q, worker = served
    name = f"spans-{os.urandom(4).hex()}"
    path = shared_lab.mark_file(name)

    def span() -> tuple[float, float]:
        started = time.monotonic()
        time.sleep(0.2)
        return started, time.monotonic()

    group = [q.options(fresh=i % 2 == 0).submit(span) for i in range(8)]
    spans = [future.result(30) for future in group]
    most = max(sum(a <= start < b for a, b in spans) for start, _ in spans)
    assert most <= 2, (most, path)
    before = set(worker.executors())
    q.options(fresh=True).submit(touch).result(20)
    shared_lab.wait_until(lambda: set(worker.executors()) <= before)


def test_a_fresh_task_is_tried_again_in_another_process(served: Any, shared_lab: Any) -> None:
    q, _ = served
    name = f"tries-{os.urandom(4).hex()}"

    def fail(path: str) -> None:
        with open(path, "a") as file:
            file.write(f"{os.getpid()} ")
        raise ValueError("not yet")

    future = q.options(fresh=True, retry=2, retry_delay=0.01).submit(
        fail, shared_lab.mark_file(name)
    )
    assert isinstance(future.exception(30), ValueError)
    assert len(set(shared_lab.marks(name))) == 3


@pytest.mark.parametrize("fn", [time.sleep, asyncio.sleep])
def test_a_fresh_task_times_out(served: Any, fn: Any) -> None:
    q, _ = served
    started = time.monotonic()
    future = q.options(fresh=True, timeout=0.5).submit(fn, 60)
    assert isinstance(future.exception(20), TaskTimeout)
    assert time.monotonic() - started < 8
    assert q.submit(touch).result(20)


def test_a_fresh_task_that_ends_its_process_takes_nothing_with_it(served: Any) -> None:
    q, _ = served
    beside = q.submit(time.sleep, 1)
    future = q.options(fresh=True).submit(os._exit, 3)
    assert isinstance(future.exception(30), WorkerLost)
    assert beside.result(20) is None


def test_a_fresh_task_that_is_cancelled_before_it_begins_leaves_the_worker_well(
    served: Any,
) -> None:
    q, _ = served
    blocking = [q.submit(time.sleep, 1) for _ in range(2)]
    future = q.options(fresh=True).submit(touch)
    future.cancel()
    assert [each.result(20) for each in blocking] == [None, None]
    assert q.options(fresh=True).submit(touch).result(20)[1] == 0


def test_schedules_and_decorated_functions_can_be_fresh(shared_lab: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBQUEUE_KEY", "5b" * 32)
        with (
            nbqueue.connect(shared_lab.url) as q,
            shared_lab.worker(queues=["named"], concurrency=1),
        ):
            plain = q.options(queue="named").submit(touch).result(20)[0]

            @q.task(queue="named", fresh=True)
            def decorated() -> int:
                return os.getpid()

            schedule = q.options(queue="named", fresh=True).schedule(touch, "@daily", id="daily")
            runs = [schedule.run_now().result(20)[0] for _ in range(2)]
            pids = {plain, decorated.submit().result(20), decorated.submit().result(20), *runs}
            assert len(pids) == 5
            schedule.remove()


def test_a_fresh_message_is_refused_with_the_way_out(shared_lab: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBQUEUE_KEY", "5b" * 32)
        with nbqueue.connect(shared_lab.url) as q:
            with pytest.raises(UsageError, match="tasks_per_executor=1"):
                q.options(fresh=True).enqueue("email:deliver", {})
            with pytest.raises(UsageError, match="fresh='yes' must be True or False"):
                q.options(fresh="yes")
    with pytest.raises(UsageError, match="fresh"):
        nbqueue.Message("email:deliver", fresh=True)
