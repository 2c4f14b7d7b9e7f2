"""Signals: what tasks and their children do with them, and what a whole worker does."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

EXECUTORS = ("process", "thread")


@pytest.fixture(scope="module", params=EXECUTORS)
def running(request: pytest.FixtureRequest, shared_lab: Any) -> Iterator[Any]:
    """A worker of each kind, which serves a queue of its own."""
    queue = f"signals-{request.param}"
    with shared_lab.worker(executor=request.param, queues=[queue], concurrency=1):

        def run(fn: Any, *args: Any) -> Any:
            return shared_lab.value(shared_lab.submit(fn, *args, queue=queue), queue=queue)

        yield run


def signalled_program(number: int) -> int:
    with subprocess.Popen(["sleep", "20"]) as process:
        process.send_signal(number)
        return process.wait(10)


async def signalled_program_of_a_coroutine(number: int) -> int:
    process = await asyncio.create_subprocess_exec("sleep", "20")
    process.send_signal(number)
    return await asyncio.wait_for(process.wait(), 10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_program_that_a_task_starts_meets_signals_by_default(running: Any, number: int) -> None:
    assert running(signalled_program, int(number)) == -number


def test_a_program_that_a_coroutine_starts_meets_signals_by_default(running: Any) -> None:
    assert running(signalled_program_of_a_coroutine, int(signal.SIGINT)) == -signal.SIGINT


def test_a_program_that_a_task_starts_inherits_no_ignored_signal(running: Any) -> None:
    def masks() -> dict[str, int]:
        status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True)
        lines = dict(line.split(":", 1) for line in status.stdout.splitlines())
        return {name: int(lines[name], 16) for name in ("SigIgn", "SigBlk")}

    # Background processes of a shell without job control ignore some of them.
    assert running(masks) == masks()


def test_a_process_of_multiprocessing_can_be_terminated(running: Any) -> None:
    def terminate() -> int | None:
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,))
        process.start()
        process.terminate()
        process.join(10)
        return process.exitcode

    assert running(terminate) == -signal.SIGTERM


def test_a_forked_child_is_interrupted_as_in_a_notebook(running: Any) -> None:
    def interrupt() -> int:
        child = os.fork()
        if child == 0:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(20)
            except KeyboardInterrupt:
                os._exit(42)
            os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert running(interrupt) == 42


def test_a_forked_child_exits_with_the_code_that_it_chose(lab: Any) -> None:
    def fork() -> list[int]:
        codes = []
        for how in (lambda: sys.exit(3), lambda: sys.exit(), lambda: os.kill(os.getpid(), 2)):
            child = os.fork()
            if not child:
                how()
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return codes

    with lab.worker(concurrency=1):
        assert lab.value(lab.submit(fork)) == [3, 0, -signal.SIGINT]


def test_a_program_that_a_task_starts_dies_of_a_broken_pipe(running: Any) -> None:
    def broken_pipe() -> int:
        with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.close()
            return process.wait(10)

    assert running(broken_pipe) == -signal.SIGPIPE


def test_a_signal_to_an_executor_does_not_disturb_its_task(running: Any) -> None:
    def signal_myself() -> float:
        started = time.monotonic()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTSTP, signal.SIGHUP):
            os.kill(os.getpid(), number)
        time.sleep(0.3)
        return time.monotonic() - started

    assert running(signal_myself) >= 0.3


def leave_handlers() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("this handler was of an earlier task")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGQUIT, signal.SIGALRM):
        signal.signal(number, fail)
    signal.setitimer(signal.ITIMER_REAL, 0.2)


async def leave_handlers_of_a_loop() -> None:
    def fail() -> None:
        raise RuntimeError("this handler was of an earlier task")

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, fail)
    leave_handlers()


def outlast_signals() -> str:
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    time.sleep(0.4)
    return "rested"


async def outlast_signals_in_a_loop() -> str:
    return outlast_signals()


def test_handlers_that_a_task_leaves_do_not_reach_the_next(shared_lab: Any) -> None:
    with shared_lab.worker(queues=["left"], concurrency=1) as worker:
        shared_lab.value(shared_lab.submit(leave_handlers, queue="left"), queue="left")
        [pid] = worker.executors()
        task = shared_lab.submit(outlast_signals, queue="left")
        assert shared_lab.value(task, queue="left") == "rested"
        stuck = shared_lab.submit(time.sleep, 30, queue="left", timeout=1)
        assert type(shared_lab.error(stuck, queue="left")).__name__ == "TaskTimeout"
        assert worker.executors() == [pid]
        shared_lab.value(shared_lab.submit(leave_handlers_of_a_loop, queue="left"), queue="left")
        task = shared_lab.submit(outlast_signals_in_a_loop, queue="left")
        assert shared_lab.value(task, queue="left") == "rested"
        assert len(worker.executors()) == 2


def rest(mark: str, seconds: float) -> str:
    with open(mark, "a") as file:
        file.write("x ")
    time.sleep(seconds)
    return "rested"


async def rest_in_a_loop(mark: str, seconds: float) -> str:
    with open(mark, "a") as file:
        file.write("x ")
    await asyncio.sleep(seconds)
    return "rested"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_whole_group_lets_its_tasks_end(lab: Any, number: int) -> None:
    with lab.worker(shutdown_timeout=15) as worker:
        tasks = [
            lab.submit(rest, lab.mark_file("begun"), 1.0),
            lab.submit(rest_in_a_loop, lab.mark_file("begun"), 1.0),
        ]
        lab.wait_until(lambda: len(lab.marks("begun")) == 2)
        os.killpg(worker.pid, number)
        assert worker.wait() == 0
        for task in tasks:
            assert lab.outcomes(task) == ["completed"]


def test_a_group_that_is_told_to_end_while_executors_start_loses_nothing(lab: Any) -> None:
    for _ in range(4):
        with lab.worker(shutdown_timeout=15, concurrency=2) as worker:
            tasks = [lab.submit(rest, lab.mark_file("m"), 0.01) for _ in range(2)]
            tasks.append(lab.submit(rest_in_a_loop, lab.mark_file("m"), 0.01))
            os.killpg(worker.pid, signal.SIGTERM)
            assert worker.wait() == 0
            assert "executor lost" not in worker.log()
            for task in tasks:
                assert "lost" not in lab.outcomes(task)
                assert lab.find(task).lost == 0


def test_a_task_whose_executor_is_killed_while_the_worker_ends_is_not_lost(lab: Any) -> None:
    task = lab.submit(rest, lab.mark_file("begun"), 30.0)
    for count in range(1, 5):
        with lab.worker(shutdown_timeout=20, concurrency=1) as worker:
            lab.wait_until(lambda count=count: len(lab.marks("begun")) == count)
            worker.signal(signal.SIGTERM)
            lab.wait_until(lambda worker=worker: "worker ends" in worker.log())
            for pid in worker.executors():
                os.kill(pid, signal.SIGKILL)
            assert worker.wait() == 0
    assert lab.state(task) == "pending"
    assert lab.outcomes(task) == ["interrupted"] * 4


def test_a_second_hangup_does_not_hurry_a_worker(lab: Any) -> None:
    with lab.worker(shutdown_timeout=15) as worker:
        task = lab.submit(rest, lab.mark_file("begun"), 1.0)
        lab.wait_until(lambda: lab.marks("begun"))
        worker.signal(signal.SIGHUP)
        lab.wait_until(lambda: "worker ends" in worker.log())
        worker.signal(signal.SIGHUP)
        assert worker.wait() == 0
        assert lab.outcomes(task) == ["completed"]


def test_under_nohup_a_worker_outlives_its_terminal(lab: Any) -> None:
    code = f"import nbqueue; nbqueue.Worker({lab.url!r}, concurrency=1).run()"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            start_new_session=True,
            env={**os.environ, "NBQUEUE_KEY": "5b" * 32},
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    try:
        task = lab.submit(rest, lab.mark_file("begun"), 0.5)
        lab.wait_until(lambda: lab.marks("begun"))
        os.killpg(process.pid, signal.SIGHUP)
        assert lab.value(task) == "rested"
        assert lab.value(lab.submit(rest, lab.mark_file("begun"), 0)) == "rested"
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_sigquit_shows_where_a_worker_is_and_it_goes_on(lab: Any) -> None:
    with lab.worker(concurrency=1) as worker:
        task = lab.submit(rest, lab.mark_file("begun"), 1.5)
        lab.wait_until(lambda: lab.marks("begun"))
        worker.signal(signal.SIGQUIT)
        lab.wait_until(lambda: "in rest" in worker.log())
        said = worker.log().partition("in rest")[0]
        assert "executor writes its stacks pid=" in said
        assert "supervisor.py" in worker.log()
        assert lab.value(task) == "rested"
        assert lab.outcomes(task) == ["completed"]
        assert psutil.Process(worker.pid).is_running()
