"""Tasks whose process dies, and workers that die, are paused, or are starved."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import psutil
import pytest

from nbqueue.calls import payloads
from nbqueue.errors import WorkerLost


def note(path: str) -> None:
    """Leave a trace of having been run."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()} ")


def wait_for_file(path: str) -> str:
    """Run until the file exists."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return "done"


def hang_once(path: str) -> str:
    """Hang at the first run, return at the second."""
    again = os.path.exists(path)
    with open(path, "a") as file:
        file.write(f"{os.getpid()} ")
    if not again:
        time.sleep(60)
    return "second run"


def hold_the_lock(path: str, seconds: int) -> str:
    """Hold the interpreter's lock in C."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()} ")
    ctypes.PyDLL(None).sleep(seconds)
    return "slept"


def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


def test_a_killed_executor_runs_its_task_again_and_leaves_its_neighbour_alone(lab: Any) -> None:
    with lab.worker() as worker:
        neighbour = lab.submit(wait_for_file, lab.mark_file("go"))
        task = lab.submit(hang_once, lab.mark_file("victim"))
        [victim] = lab.wait_until(lambda: lab.marks("victim"))
        os.kill(int(victim), signal.SIGKILL)
        assert lab.value(task) == "second run"
        with open(lab.mark_file("go"), "w"):
            pass
        assert lab.value(neighbour) == "done"
        assert lab.outcomes(neighbour) == ["completed"]
        first, second = lab.attempts(task)
        assert (first["attempt"], first["outcome"]) == ("1", "lost")
        assert "SIGKILL" in first["reason"]
        assert (second["attempt"], second["outcome"]) == ("2", "completed")
        assert lab.find(task).message.retried == 0
        log = worker.log()
        assert "worker ready" in log
        assert f"executor lost pid={victim}" in log
        assert f"id={task}" in log


def leave_at_once() -> None:
    os._exit(7)


def read_null() -> None:
    ctypes.string_at(0)


def overflow_the_stack(n: int = 0) -> Any:
    sys.setrecursionlimit(10**6)
    return sorted([n], key=lambda each: overflow_the_stack(each + 1))


@pytest.mark.parametrize(
    ("fn", "word"),
    [(leave_at_once, "code 7"), (read_null, "SIGSEGV"), (overflow_the_stack, "SIGSEGV")],
)
def test_a_task_that_kills_its_process_three_times_is_archived(
    lab: Any, fn: Any, word: str
) -> None:
    with lab.worker():
        task = lab.submit(fn)
        fine = lab.submit(nap, 0.01)
        error = lab.error(task)
        assert isinstance(error, WorkerLost)
        assert word in str(error)
        assert lab.outcomes(task) == ["lost", "lost", "archived"]
        assert lab.value(fine) == "rested"
        assert lab.outcomes(fine) == ["completed"]


def test_what_must_not_run_twice_is_archived_when_its_process_dies(lab: Any) -> None:
    with lab.worker():
        task = lab.submit(leave_at_once, flags=payloads.FAIL_IF_LOST)
        assert isinstance(lab.error(task), WorkerLost)
        assert lab.outcomes(task) == ["archived"]


def test_a_task_that_forks_comes_to_one_end(lab: Any) -> None:
    def fork_and_wait() -> int:
        child = os.fork()
        if child == 0:
            os._exit(5)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def fork_and_return() -> str:
        child = os.fork()
        if child == 0:
            return "the child's"
        os.waitpid(child, 0)
        return "the parent's"

    with lab.worker():
        assert lab.value(lab.submit(fork_and_wait)) == 5
        task = lab.submit(fork_and_return)
        assert lab.value(task) == "the parent's"
        assert lab.outcomes(task) == ["completed"]
        assert lab.value(lab.submit(nap, 0)) == "rested"


def test_a_child_process_that_outlives_its_killed_executor_does_not_hide_its_death(
    lab: Any,
) -> None:
    def leave_a_child(path: str) -> str:
        if os.path.exists(path):
            return "second run"
        # As a library in C forks: without Python's hooks.
        if ctypes.CDLL(None).fork() == 0:
            with open(path, "a") as file:
                file.write(f"{os.getppid()} {os.getpid()} ")
            ctypes.CDLL(None).sleep(20)
            os._exit(0)
        time.sleep(60)
        return "never"

    with lab.worker() as worker:
        task = lab.submit(leave_a_child, lab.mark_file("child"))
        lab.wait_until(lambda: len(lab.marks("child")) == 2)
        parent, child = (int(each) for each in lab.marks("child"))
        worker.seen.add(child)
        os.kill(parent, signal.SIGKILL)
        assert lab.value(task, seconds=3) == "second run"


@pytest.mark.slow
def test_a_task_that_closes_the_files_of_its_executor_does_not_hold_up_others(lab: Any) -> None:
    def close_files() -> None:
        os.closerange(3, 50)
        time.sleep(8)

    with lab.worker(lease=2):
        lab.value(lab.submit(nap, 0))
        closer = lab.submit(close_files)
        lab.wait_for(closer, "active")
        slowest = 0.0
        limit = time.monotonic() + 1.5
        while time.monotonic() < limit:
            began = time.monotonic()
            lab.value(lab.submit(nap, 0))
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1.5
        assert isinstance(lab.error(closer), WorkerLost)


def test_a_thread_left_by_a_recycled_executor_does_not_hold_up_others(lab: Any) -> None:
    def leave_a_thread() -> int:
        threading.Thread(target=time.sleep, args=(8,)).start()
        return os.getpid()

    with lab.worker(tasks_per_executor=1, lease=2):
        lab.value(lab.submit(leave_a_thread))
        slowest = 0.0
        for _ in range(5):
            began = time.monotonic()
            lab.value(lab.submit(nap, 0))
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 2


def test_tasks_that_share_a_process_do_not_pay_for_the_time_outs_of_others(lab: Any) -> None:
    """Three other tasks have to be killed, which must not count against this one."""

    def hang(path: str) -> None:
        with open(path, "a") as file:
            file.write("x ")
        ctypes.CDLL(None).sleep(30)

    with lab.worker(executor="thread", kill_grace=0.2):
        innocent = lab.submit(wait_for_file, lab.mark_file("go"))
        for i in range(3):
            guilty = lab.submit(hang, lab.mark_file(f"guilty{i}"), timeout=1)
            lab.wait_for(guilty, "archived")
        with open(lab.mark_file("go"), "w"):
            pass
        assert lab.value(innocent) == "done"


@pytest.mark.parametrize("holds_the_lock", [False, True])
def test_executors_die_with_their_supervisor_and_another_worker_takes_over(
    lab: Any, holds_the_lock: bool
) -> None:
    first = lab.start_worker(lease=2)
    path = lab.mark_file("victim")
    if holds_the_lock:

        def hold_once(path: str) -> str:
            again = os.path.exists(path)
            with open(path, "a") as file:
                file.write(f"{os.getpid()} ")
            if not again:
                ctypes.PyDLL(None).sleep(30)
            return "second run"

        task = lab.submit(hold_once, path)
    else:
        task = lab.submit(hang_once, path)
    [pid] = lab.wait_until(lambda: lab.marks("victim"))
    executors = first.executors()
    assert int(pid) in executors
    second = lab.start_worker(lease=2)
    first.signal(signal.SIGKILL)
    first.wait()
    lab.wait_until(lambda: all(map(lab.is_gone, executors)), 2, "for the executors to end")
    assert lab.value(task, seconds=10) == "second run"
    lost, done = lab.attempts(task)
    assert (lost["outcome"], done["outcome"]) == ("lost", "completed")
    assert f":{first.pid}:" in lost["worker"]
    assert f":{second.pid}:" in done["worker"]


def test_a_lost_attempt_is_recorded_under_the_worker_that_ran_it(lab: Any) -> None:
    first = lab.start_worker(lease=1)
    task = lab.submit(hang_once, lab.mark_file("victim"))
    lab.wait_until(lambda: lab.marks("victim"))
    first.signal(signal.SIGKILL)
    first.wait()
    lab.start_worker(lease=1)
    assert lab.value(task, seconds=10) == "second run"
    lost, _ = lab.attempts(task)
    assert f":{first.pid}:" in lost["worker"]


def test_a_paused_worker_cannot_complete_a_recovered_task(lab: Any) -> None:
    def tell_pid(path: str, go: str) -> int:
        with open(path, "a") as file:
            file.write(f"{os.getppid()} ")
        while not os.path.exists(go):
            time.sleep(0.01)
        return os.getppid()

    first = lab.start_worker(lease=2)
    task = lab.submit(tell_pid, lab.mark_file("ran"), lab.mark_file("go"))
    lab.wait_until(lambda: lab.marks("ran"))
    first.signal(signal.SIGSTOP)
    second = lab.start_worker(lease=2)
    lab.wait_until(lambda: len(lab.marks("ran")) == 2, 10)
    # The first run ends while its supervisor sleeps; its answer waits for it.
    with open(lab.mark_file("go"), "w"):
        pass
    assert lab.value(task) == second.pid
    first.signal(signal.SIGCONT)
    lab.wait_until(lambda: f"lease lost id={task}" in first.log(), what="for the refusal")
    assert lab.value(task) == second.pid
    assert lab.events("completed", task) == 1
    assert lab.outcomes(task) == ["lost", "completed"]
    assert first.alive
    # It is fit for work again.
    second.signal(signal.SIGTERM)
    second.wait()
    assert lab.value(lab.submit(nap, 0)) == "rested"


@pytest.mark.slow
def test_a_paused_worker_cannot_fail_a_task_that_runs_elsewhere(lab: Any) -> None:
    def tell_pid(path: str, go: str) -> int:
        with open(path, "a") as file:
            file.write(f"{os.getppid()} ")
            first = file.tell() == len(f"{os.getppid()} ")
        while not os.path.exists(go):
            time.sleep(0.01)
        if first:
            raise ValueError("first")
        while not os.path.exists(go + "2"):
            time.sleep(0.01)
        return os.getppid()

    first = lab.start_worker(lease=2)
    task = lab.submit(tell_pid, lab.mark_file("ran"), lab.mark_file("go"))
    lab.wait_until(lambda: lab.marks("ran"))
    first.signal(signal.SIGSTOP)
    second = lab.start_worker(lease=2)
    lab.wait_until(lambda: len(lab.marks("ran")) == 2, 10)
    with open(lab.mark_file("go"), "w"):
        pass
    first.signal(signal.SIGCONT)
    lab.wait_until(lambda: f"lease lost id={task}" in first.log(), what="for the refusal")
    assert lab.state(task) == "active"
    with open(lab.mark_file("go2"), "w"):
        pass
    assert lab.value(task) == second.pid


@pytest.mark.slow
def test_a_task_that_holds_the_interpreter_longer_than_its_lease_runs_once(lab: Any) -> None:
    lab.start_worker(lease=2)
    lab.start_worker(lease=2)
    task = lab.submit(hold_the_lock, lab.mark_file("held"), 5)
    assert lab.value(task) == "slept"
    assert len(lab.marks("held")) == 1
    assert lab.outcomes(task) == ["completed"]


def test_an_executor_that_is_killed_when_idle_is_replaced(lab: Any) -> None:
    with lab.worker() as worker:
        lab.value(lab.submit(nap, 0))
        before = worker.executors()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        tasks = [lab.submit(nap, 0.05) for _ in range(4)]
        lab.wait_for_all(tasks)
        assert {tuple(lab.outcomes(task)) for task in tasks} <= {
            ("completed",),
            ("lost", "completed"),
        }


def test_executors_are_recycled_without_losing_tasks_or_files(lab: Any) -> None:
    def give_pid() -> int:
        return os.getpid()

    with lab.worker(tasks_per_executor=25) as worker:
        lab.wait_for_all(lab.submit_many(give_pid, [()] * 100))
        supervisor = psutil.Process(worker.pid)
        before = supervisor.num_fds()
        ids = lab.submit_many(give_pid, [()] * 500)
        lab.wait_for_all(ids)
        pids = [lab.value_of(record) for record in lab.broker.read("default", ids)]
        assert all(pids.count(pid) <= 25 for pid in set(pids))
        assert {tuple(lab.outcomes(task)) for task in ids[::50]} == {("completed",)}
        # Two executors have ten, and those that are being replaced hold theirs a little longer.
        lab.wait_until(lambda: supervisor.num_fds() <= before + 10, what="for files to be closed")
        lab.wait_until(lambda: len(worker.executors()) <= 2, what="for executors to end")


def test_an_executor_is_recycled_for_its_memory(lab: Any) -> None:
    def eat(megabytes: int) -> int:
        data = bytearray(megabytes << 20)
        data[::4096] = b"x" * len(data[::4096])
        return os.getpid()

    with lab.worker(concurrency=1, memory_per_executor=150 << 20):
        first = lab.value(lab.submit(eat, 1))
        assert lab.value(lab.submit(eat, 1)) == first
        lab.value(lab.submit(eat, 200))
        task = lab.submit(eat, 1)
        assert lab.value(task) != first
        [attempt] = lab.attempts(task)
        assert int(attempt["peak_memory"]) < 100 << 20


@pytest.mark.slow
def test_the_memory_of_an_attempt_is_not_that_of_the_supervisor(lab: Any) -> None:
    def give(n: int) -> bytes:
        return b"x" * n

    with lab.worker(concurrency=1, tasks_per_executor=1):
        lab.value(lab.submit(give, 100 << 20))
        task = lab.submit(nap, 0)
        lab.value(task)
        task = lab.submit(nap, 0)
        lab.value(task)
        [attempt] = lab.attempts(task)
        assert int(attempt["peak_memory"]) < 90 << 20


def test_a_worker_whose_executors_cannot_start_ends_and_says_so(lab: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # Breaks the import of the executor's modules in every process it starts.
        broken = lab.folder / "broken"
        broken.mkdir()
        (broken / "sitecustomize.py").write_text(
            "import os, sys\nif 'nbqueue.executor' in sys.orig_argv: os._exit(9)\n"
        )
        patch.setenv("PYTHONPATH", str(broken))
        worker = lab.start_worker(shutdown_timeout=1)
        task = lab.submit(nap, 0)
        assert worker.wait() == 1
    assert "exit code 9" in worker.log()
    assert "CRITICAL" in worker.log()
    assert lab.state(task) in ("pending", "archived")


def test_processes_that_tasks_start_hold_no_files_of_the_executor(lab: Any) -> None:
    def list_files() -> list[str]:
        code = "import os; print(*[os.readlink(f'/proc/self/fd/{n}') for n in (3, 4, 5, 6, 7) "
        code += "if os.path.exists(f'/proc/self/fd/{n}')])"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, close_fds=False
        )
        return done.stdout.split()

    with lab.worker():
        assert not [each for each in lab.value(lab.submit(list_files)) if "pipe" in each]


def test_a_task_may_use_processes_of_its_own(lab: Any) -> None:
    def fan_out() -> list[int]:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(abs, [-1, -2, -3])

    with lab.worker() as worker:
        assert lab.value(lab.submit(fan_out)) == [1, 2, 3]
        assert lab.value(lab.submit(fan_out)) == [1, 2, 3]
        assert "executor lost" not in worker.log()


@pytest.mark.parametrize("executor", [pytest.param("process", marks=pytest.mark.slow), "thread"])
def test_coroutines_and_threads_survive_the_recycling_of_their_process(
    lab: Any, executor: str
) -> None:
    async def anap(seconds: float) -> int:
        import asyncio

        await asyncio.sleep(seconds)
        return os.getpid()

    def snap(seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()

    with lab.worker(concurrency=4, tasks_per_executor=5, executor=executor) as worker:
        fn = anap if executor == "process" else snap
        long = lab.submit(fn, 1.0)
        ids = lab.submit_many(fn, [(0.02,)] * 40)
        lab.wait_for_all([long, *ids])
        assert {tuple(lab.outcomes(task)) for task in [long, *ids]} == {("completed",)}
        assert len({lab.value_of(r) for r in lab.broker.read("default", ids)}) > 2
        lab.wait_until(lambda: len(worker.executors()) <= 6, 5, "for executors to end")


@pytest.mark.slow
def test_recycled_executors_end_even_if_a_task_left_a_thread(lab: Any) -> None:
    def leave_a_thread() -> int:
        threading.Thread(target=time.sleep, args=(30,)).start()
        return os.getpid()

    with lab.worker(concurrency=1, tasks_per_executor=1, kill_grace=1) as worker:
        for _ in range(4):
            lab.value(lab.submit(leave_a_thread))
        lab.wait_until(lambda: len(worker.executors()) <= 2, 4, "for executors to end")


@pytest.mark.slow
def test_what_must_not_run_twice_is_archived_when_its_worker_dies(lab: Any) -> None:
    first = lab.start_worker(lease=2)
    task = lab.submit(hang_once, lab.mark_file("victim"), flags=payloads.FAIL_IF_LOST)
    lab.wait_until(lambda: lab.marks("victim"))
    first.signal(signal.SIGKILL)
    first.wait()
    lab.start_worker(lease=2)
    assert isinstance(lab.error(task), WorkerLost)
    assert len(lab.marks("victim")) == 1
