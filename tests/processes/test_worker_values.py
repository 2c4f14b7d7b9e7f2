"""Results of tasks: values, exceptions, and objects that cannot be sent back."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nbqueue.calls.exceptions import RemoteTraceback
from nbqueue.errors import CannotPickle


@pytest.fixture(scope="module")
def lab(shared_lab: Any) -> Iterator[Any]:
    with shared_lab.worker(concurrency=2):
        yield shared_lab


def add(a: int, b: int) -> int:
    return a + b


class Grid:
    def __init__(self, side: int) -> None:
        self.side = side


class BadGrid(ValueError):
    def __init__(self, side: int, why: str) -> None:
        super().__init__(f"{side}: {why}")
        self.side = side


class Stubborn(Exception):
    """Cannot be pickled, and has a failing repr."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __str__(self) -> str:
        raise RuntimeError("no")


def double(grid: Grid) -> Grid:
    assert isinstance(grid, Grid)
    return Grid(grid.side * 2)


def raise_bad_grid() -> None:
    raise BadGrid(3, "odd")


def raise_stubborn() -> None:
    raise Stubborn


def give_lock() -> Any:
    return {"a": [1, threading.Lock()]}


def exit_with_three() -> None:
    raise SystemExit(3)


def interrupt_oneself() -> None:
    raise KeyboardInterrupt


def recurse(n: int = 0) -> int:
    return recurse(n + 1) + 1


def size_of(data: bytes) -> int:
    return len(data)


def give_bytes(n: int) -> bytes:
    return os.urandom(n // 16) * 16


def give_pid() -> int:
    return os.getpid()


def test_a_value_comes_back(lab: Any) -> None:
    assert lab.value(lab.submit(add, 20, 22)) == 42


def test_objects_of_a_local_class_go_and_come_back(lab: Any) -> None:
    came = lab.value(lab.submit(double, Grid(4)))
    assert type(came) is Grid
    assert came.side == 8


def test_an_exception_comes_back_in_its_type_with_its_traceback(lab: Any) -> None:
    task = lab.submit(raise_bad_grid)
    error = lab.error(task)
    assert type(error) is BadGrid
    assert error.side == 3
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "raise_bad_grid" in str(error.__cause__)
    assert lab.find(task).message.error_msg.endswith("BadGrid: 3: odd")
    [attempt] = lab.attempts(task)
    assert (attempt["outcome"], attempt["reason"]) == ("archived", "error")


def test_an_exception_that_cannot_be_pickled_or_shown_comes_back_in_its_type(lab: Any) -> None:
    error = lab.error(lab.submit(raise_stubborn))
    assert type(error) is Stubborn
    assert "raise_stubborn" in str(error.__cause__)


def test_a_result_that_cannot_be_sent_archives_the_task_and_names_the_culprit(lab: Any) -> None:
    task = lab.submit(give_lock, retry=5)
    error = lab.error(task)
    assert isinstance(error, CannotPickle)
    assert "lock" in str(error)
    assert lab.outcomes(task) == ["archived"]


@pytest.mark.parametrize(
    ("fn", "kind"), [(exit_with_three, SystemExit), (interrupt_oneself, KeyboardInterrupt)]
)
def test_what_would_end_a_program_fails_the_task_and_leaves_its_executor(
    lab: Any, fn: Any, kind: type[BaseException]
) -> None:
    error = lab.error(lab.submit(fn))
    assert type(error) is kind
    assert lab.value(lab.submit(give_pid)) > 0
    assert "executor lost" not in lab._workers[0].log()


def test_endless_recursion_fails_with_recursion_error(lab: Any) -> None:
    assert type(lab.error(lab.submit(recurse))) is RecursionError


def test_twenty_megabytes_go_in_and_come_out(lab: Any) -> None:
    size = 20 * 1024 * 1024
    data = os.urandom(1024) * (size // 1024)
    going, coming = lab.submit(size_of, data), lab.submit(give_bytes, size)
    assert lab.value(going) == size
    assert len(lab.value(coming)) == size


def test_two_thousand_tiny_tasks_run_once_each(lab: Any) -> None:
    began = time.monotonic()
    ids = lab.submit_many(add, [(i, 1) for i in range(2000)])
    lab.wait_for_all(ids)
    print(f"2000 tiny tasks, with their submission, took {time.monotonic() - began:.2f} s")
    records = lab.broker.read("default", ids)
    assert [lab.value_of(record) for record in records] == list(range(1, 2001))
    rows = [row for row in lab.attempts() if row["task_id"] in set(ids)]
    assert len(rows) == 2000
    assert len({row["task_id"] for row in rows}) == 2000
    assert {row["attempt"] for row in rows} == {"1"}
    for row in rows:
        assert int(row["started_at"]) <= int(row["finished_at"])
        assert int(row["waited"]) >= 0


def test_one_executor_runs_tasks_in_the_order_they_came(shared_lab: Any) -> None:
    def note(path: str, i: int) -> None:
        with open(path, "a") as file:
            file.write(f"{i} ")

    path = shared_lab.mark_file("order")
    ids = shared_lab.submit_many(note, [(path, i) for i in range(300)], queue="line")
    with shared_lab.worker(concurrency=1, queues={"line": 1}):
        shared_lab.wait_for_all(ids, queue="line")
    assert shared_lab.marks("order") == [str(i) for i in range(300)]


def test_coroutines_share_one_loop(shared_lab: Any) -> None:
    async def nap(seconds: float) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()

    with shared_lab.worker(concurrency=50, queues={"loop": 1}):
        began = time.monotonic()
        ids = shared_lab.submit_many(nap, [(0.2,)] * 50, queue="loop")
        shared_lab.wait_for_all(ids, queue="loop")
        took = time.monotonic() - began
    print(f"50 coroutines of 0.2 s took {took:.2f} s")
    assert took < 5
    records = shared_lab.broker.read("loop", ids)
    assert len({shared_lab.value_of(record) for record in records}) == 1


def test_threads_share_one_process(shared_lab: Any) -> None:
    def nap(seconds: float) -> tuple[int, int]:
        time.sleep(seconds)
        return os.getpid(), threading.get_ident()

    with shared_lab.worker(concurrency=10, executor="thread", queues={"threads": 1}):
        began = time.monotonic()
        ids = shared_lab.submit_many(nap, [(0.2,)] * 20, queue="threads")
        shared_lab.wait_for_all(ids, queue="threads")
        took = time.monotonic() - began
    assert took < 2
    places = {shared_lab.value_of(each) for each in shared_lab.broker.read("threads", ids)}
    assert len({pid for pid, _ in places}) == 1
    assert len(places) > 1


def test_a_task_knows_itself(lab: Any) -> None:
    def look() -> Any:
        from nbqueue.tasks.task import current_task

        return current_task()

    task = lab.submit(look, retry=2)
    seen = lab.value(task)
    assert (seen.id, seen.queue, seen.attempt, seen.max_retry) == (task, "default", 1, 2)
    assert seen.deadline is None


def test_no_trace_of_a_value_stays_with_the_next_task(lab: Any) -> None:
    def look() -> Any:
        from nbqueue.tasks.task import current_task

        task = current_task()
        return task.id if task else None

    ids = lab.submit_many(look, [()] * 20)
    lab.wait_for_all(ids)
    assert [lab.value_of(record) for record in lab.broker.read("default", ids)] == ids


def test_tasks_do_not_inherit_the_signing_key(lab: Any) -> None:
    def look() -> str | None:
        return os.environ.get("NBQUEUE_KEY")

    assert lab.value(lab.submit(look)) is None


def test_coroutines_that_raise_what_ends_programs_only_fail(lab: Any) -> None:
    async def leave() -> None:
        await asyncio.sleep(0)
        raise SystemExit(4)

    async def stay() -> str:
        await asyncio.sleep(0.3)
        return "here"

    staying, leaving = lab.submit(stay), lab.submit(leave)
    assert type(lab.error(leaving)) is SystemExit
    assert lab.value(staying) == "here"
    assert lab.outcomes(staying) == ["completed"]
