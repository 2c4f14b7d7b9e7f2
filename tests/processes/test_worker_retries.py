"""Time-outs, deadlines, retries and cancelling, with the task's own view of them."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import signal
import threading
import time
from typing import Any

import pytest
from waits import let_time_pass

from nbqueue.errors import RetryLater, RevokeTask, SkipRetry, TaskCancelled, TaskTimeout


def sleep_long(path: str) -> None:
    """Note which exception came, and that there was time to clean up."""
    try:
        time.sleep(30)
    except BaseException as error:
        with open(path, "a") as file:
            file.write(type(error).__name__ + " ")
        raise
    finally:
        with open(path, "a") as file:
            file.write("cleaned ")


def count_long(path: str) -> None:
    """Count in Python code that never waits in one call for long."""
    try:
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            time.sleep(0.001)
    except BaseException as error:
        with open(path, "a") as file:
            file.write(type(error).__name__ + " ")
        raise
    finally:
        with open(path, "a") as file:
            file.write("cleaned ")


async def wait_long(path: str) -> None:
    try:
        await asyncio.sleep(30)
    except BaseException as error:
        with open(path, "a") as file:
            file.write(type(error).__name__ + " ")
        raise
    finally:
        with open(path, "a") as file:
            file.write("cleaned ")


def give_pid() -> int:
    return os.getpid()


def mark(path: str, word: str) -> str:
    with open(path, "a") as file:
        file.write(word + " ")
    return word


def rest_and_mark(path: str, word: str) -> str:
    time.sleep(0.3)
    with open(path, "a") as file:
        file.write(word + " ")
    return word


@pytest.mark.parametrize(
    ("executor", "fn", "word"),
    [
        ("process", sleep_long, "TaskTimeout"),
        ("process", wait_long, "CancelledError"),
        ("thread", count_long, "TaskTimeout"),
    ],
)
def test_a_time_out_is_raised_in_the_task_which_may_clean_up(
    lab: Any, executor: str, fn: Any, word: str
) -> None:
    with lab.worker(concurrency=1, executor=executor) as worker:
        # The time runs while an executor starts: have it start before.
        lab.error(lab.submit(fn, lab.mark_file("before"), timeout=1))
        task = lab.submit(fn, lab.mark_file("said"), timeout=1)
        error = lab.error(task, seconds=4)
        assert isinstance(error, TaskTimeout)
        assert lab.marks("said") == [word, "cleaned"]
        [attempt] = lab.attempts(task)
        assert (attempt["outcome"], attempt["reason"]) == ("archived", "timeout")
        duration = int(attempt["finished_at"]) - int(attempt["started_at"])
        assert 900 <= duration <= 2500
        assert "executor lost" not in worker.log()
        assert lab.value(lab.submit(give_pid)) > 0


def swallow(path: str) -> None:
    while True:
        try:
            time.sleep(30)
        except BaseException:
            with open(path, "a") as file:
                file.write("swallowed ")


def hold(path: str) -> None:
    with open(path, "a") as file:
        file.write("held ")
    ctypes.PyDLL(None).sleep(30)


async def swallow_cancel(path: str) -> None:
    while True:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            with open(path, "a") as file:
                file.write("swallowed ")


@pytest.mark.parametrize(
    ("executor", "fn"),
    [
        ("process", swallow),
        ("process", hold),
        ("process", swallow_cancel),
        ("thread", hold),
    ],
)
def test_a_task_that_does_not_end_at_its_time_out_is_killed(
    lab: Any, executor: str, fn: Any
) -> None:
    with lab.worker(concurrency=1, executor=executor, kill_grace=0.5):
        task = lab.submit(fn, lab.mark_file("said"), timeout=1)
        assert isinstance(lab.error(task, seconds=6), TaskTimeout)
        assert len(lab.marks("said")) == 1
        assert lab.outcomes(task) == ["archived"]
        assert lab.value(lab.submit(give_pid)) > 0


def test_a_coroutine_that_swallows_its_time_out_and_returns_has_timed_out(lab: Any) -> None:
    async def shrug() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            pass
        return "late"

    with lab.worker():
        task = lab.submit(shrug, timeout=1)
        assert isinstance(lab.error(task), TaskTimeout)


@pytest.mark.slow
def test_what_timed_out_with_a_retry_left_runs_again(lab: Any) -> None:
    def slow_once(path: str) -> str:
        if os.path.exists(path):
            return "in time"
        with open(path, "w"):
            pass
        time.sleep(30)
        return "never"

    with lab.worker():
        task = lab.submit(slow_once, lab.mark_file("ran"), timeout=1, retry=1)
        record = lab.wait_for(task, "retry")
        assert record.message.retried == 1
        assert "timed out" in record.message.error_msg
        assert lab.value(task) == "in time"
        assert lab.outcomes(task) == ["retry", "completed"]


def test_a_task_past_its_deadline_never_runs(lab: Any) -> None:
    with lab.worker():
        now = int(lab.broker.clock.now())
        task = lab.submit(mark, lab.mark_file("ran"), "x", deadline=now - 1)
        assert isinstance(lab.error(task), TaskTimeout)
        again = lab.submit(mark, lab.mark_file("ran"), "x", deadline=now - 1, retry=1)
        assert lab.wait_for(again, "retry", "archived").state == "retry"
        assert isinstance(lab.error(again), TaskTimeout)
        assert lab.marks("ran") == []


def test_the_time_out_of_a_task_begins_when_it_runs(lab: Any) -> None:
    """The task waited in the worker, behind a slow one, for longer than it may run."""
    with lab.worker(concurrency=1):
        lab.value(lab.submit(time.sleep, 0))
        lab.wait_for_all(lab.submit_many(give_pid, [()] * 500))  # many at once from now on
        lab.redis.set("asynq:{default}:paused", 1)
        slow = lab.submit(time.sleep, 2.5)
        quick = lab.submit(rest_and_mark, lab.mark_file("ran"), "x", timeout=1)
        lab.redis.delete("asynq:{default}:paused")
        assert lab.value(quick) == "x"
        assert lab.state(slow) == "completed"


def test_calls_are_retried_after_doubling_delays_with_jitter(lab: Any) -> None:
    def fail(path: str) -> None:
        with open(path, "a") as file:
            file.write("x ")
        raise ValueError("again")

    with lab.worker():
        tasks = [lab.submit(fail, lab.mark_file(f"t{i}"), retry=2) for i in range(12)]
        lab.wait_for_all(tasks)
        delays: dict[str, list[float]] = {"1": [], "2": []}
        for task in tasks:
            rows = lab.attempts(task)
            assert [row["outcome"] for row in rows] == ["retry", "retry", "archived"]
            assert [row["attempt"] for row in rows] == ["1", "2", "3"]
            for before, after in itertools.pairwise(rows):
                gap = int(after["started_at"]) - int(before["finished_at"])
                delays[before["attempt"]].append(gap / 1000)
            record = lab.find(task)
            assert record.message.retried == 2
            assert type(lab.error_of(record)) is ValueError
        print("delays", {n: (min(each), max(each)) for n, each in delays.items()})
        assert all(0.49 <= each <= 1.5 for each in delays["1"])
        assert all(0.99 <= each <= 2.5 for each in delays["2"])
        assert max(delays["1"]) - min(delays["1"]) > 0.05


def test_skip_retry_archives_at_once(lab: Any) -> None:
    def give_up() -> None:
        raise SkipRetry("no use")

    with lab.worker():
        task = lab.submit(give_up, retry=5)
        assert type(lab.error(task)) is SkipRetry
        record = lab.find(task)
        assert record.message.retried == 0
        assert "no use" in record.message.error_msg


def test_a_revoked_task_is_deleted_and_counts_as_processed(lab: Any) -> None:
    def revoke() -> None:
        raise RevokeTask

    with lab.worker():
        task = lab.submit(revoke, retry=5)
        lab.wait_until(lambda: lab.find(task) is None)
        assert lab.redis.get("asynq:{default}:processed") == b"1"
        assert lab.redis.get("asynq:{default}:failed") is None
        assert lab.length("active") == lab.length("lease") == 0


def test_retry_later_comes_back_when_it_says_and_uses_up_no_retry(lab: Any) -> None:
    def later(path: str) -> str:
        with open(path, "a") as file:
            file.write("x ")
            if file.tell() < 6:
                raise RetryLater(0.2, counts=False)
        return "done"

    with lab.worker():
        task = lab.submit(later, lab.mark_file("later"))
        assert lab.value(task, seconds=5) == "done"
        rows = lab.attempts(task)
        assert [row["outcome"] for row in rows] == ["retry", "retry", "completed"]
        gaps = [
            int(after["started_at"]) - int(before["finished_at"])
            for before, after in itertools.pairwise(rows)
        ]
        print("asked for 200 ms, took", gaps)
        assert all(195 <= gap <= 700 for gap in gaps)
        assert lab.find(task).message.retried == 0
        assert lab.redis.get("asynq:{default}:failed") is None


def test_a_nonsense_delay_fails_the_task_and_says_so(lab: Any) -> None:
    def later() -> None:
        raise RetryLater("tomorrow", counts=False)

    with lab.worker():
        task = lab.submit(later)
        error = lab.error(task)
        assert "tomorrow" in str(error)


@pytest.mark.parametrize("fn", [sleep_long, wait_long])
@pytest.mark.slow
def test_a_task_can_be_cancelled_while_its_executor_starts(lab: Any, fn: Any) -> None:
    slow_start = lab.folder / "slow"
    slow_start.mkdir()
    (slow_start / "sitecustomize.py").write_text(
        "import sys, time\nif 'nbqueue.executor' in sys.orig_argv: time.sleep(0.9)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(slow_start))
        lab.start_worker(concurrency=1)
    task = lab.submit(fn, lab.mark_file("said"))
    lab.wait_for(task, "active")
    let_time_pass(0.15)  # its code has come, and the executor has it
    assert lab.redis.publish("asynq:cancel", task) == 1
    assert lab.wait_for(task, seconds=2.5).state == "archived"


@pytest.mark.slow
def test_a_task_can_be_cancelled_at_the_moment_when_it_begins(lab: Any) -> None:
    for _ in range(20):
        with lab.worker(concurrency=1):
            task = lab.submit(sleep_long, lab.mark_file("said"))
            # Its executor may have begun it, and the supervisor not know yet.
            lab.wait_for(task, "active")
            lab.redis.publish("asynq:cancel", task)
            lab.wait_for(task, "archived", seconds=3)
            assert lab.outcomes(task) == ["archived"]


@pytest.mark.slow
def test_a_coroutine_cancelled_before_its_first_step_leaves_its_neighbours_alone(lab: Any) -> None:
    async def block(path: str, seconds: float) -> str:
        with open(path, "a") as file:
            file.write("x ")
        time.sleep(seconds)
        await asyncio.sleep(1.5)
        return "undisturbed"

    with lab.worker(concurrency=4, kill_grace=0.5):
        neighbour = lab.submit(block, lab.mark_file("began"), 0.4)
        lab.wait_until(lambda: lab.marks("began"))
        task = lab.submit(wait_long, lab.mark_file("said"))
        lab.wait_for(task, "active")
        lab.redis.publish("asynq:cancel", task)
        lab.wait_for(task, "archived")
        assert lab.value(neighbour) == "undisturbed"
        assert lab.outcomes(neighbour) == ["completed"]


@pytest.mark.parametrize("fn", [sleep_long, wait_long])
def test_a_running_task_can_be_cancelled(lab: Any, fn: Any) -> None:
    with lab.worker() as worker:
        path = lab.mark_file("before")
        lab.error(lab.submit(fn, path, timeout=1))  # its executor has started
        task = lab.submit(fn, lab.mark_file("said"), retry=3)
        lab.wait_for(task, "active")

        let_time_pass(0.1)  # it sleeps by now
        lab.redis.publish("asynq:cancel", task)
        lab.wait_for(task, "archived", seconds=3)
        assert isinstance(lab.error(task), TaskCancelled)
        assert lab.outcomes(task) == ["archived"]
        assert "executor lost" not in worker.log()


@pytest.mark.slow
def test_a_task_that_waits_in_a_worker_can_be_cancelled(lab: Any) -> None:
    with lab.worker(concurrency=1):
        lab.value(lab.submit(time.sleep, 0))
        lab.wait_for_all(lab.submit_many(give_pid, [()] * 500))  # many at once from now on
        lab.redis.set("asynq:{default}:paused", 1)
        slow = lab.submit(time.sleep, 3)
        waiting = [lab.submit(mark, lab.mark_file("ran"), str(i)) for i in range(3)]
        lab.redis.delete("asynq:{default}:paused")
        lab.wait_until(lambda: lab.state(slow) == lab.state(waiting[1]) == "active")
        lab.redis.publish("asynq:cancel", waiting[1])
        lab.wait_for(waiting[1], "archived", seconds=2)
        lab.wait_for_all([slow, *waiting])
        assert lab.marks("ran") == ["0", "2"]


def test_a_task_may_use_signals_and_alarms_of_its_own(lab: Any) -> None:
    def use_alarm() -> str:
        came = threading.Event()
        old = signal.signal(signal.SIGALRM, lambda *_: came.set())
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            return "rang" if came.wait(5) else "silent"
        finally:
            signal.signal(signal.SIGALRM, old)

    with lab.worker():
        assert lab.value(lab.submit(use_alarm)) == "rang"


@pytest.mark.slow
def test_a_task_that_takes_the_signal_of_time_outs_is_still_ended(lab: Any) -> None:
    def deaf() -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        time.sleep(30)

    with lab.worker(kill_grace=0.3):
        assert isinstance(lab.error(lab.submit(deaf, timeout=1), seconds=5), TaskTimeout)


def test_many_threads_that_end_at_their_time_out_all_come_to_an_end(lab: Any) -> None:
    """The interrupt must not hit what comes after the task in the same thread."""

    def end_about_then(seconds: float) -> str:
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            time.sleep(0.0005)
        return "in time"

    with lab.worker(concurrency=30, executor="thread", kill_grace=2) as worker:
        lab.value(lab.submit(give_pid))
        ids = lab.submit_many(end_about_then, [(0.95 + i * 0.004,) for i in range(30)], timeout=1)
        lab.wait_for_all(ids)
        states = lab.broker.states("default", ids)
        print({state: states.count(state) for state in states})
        assert "executor lost" not in worker.log()
        assert all(len(lab.outcomes(task)) == 1 for task in ids)
