"""Executors that are started before they are needed."""

from __future__ import annotations

import os

import psutil
import pytest

from nbqueue.worker.executors.spawn import SYNC, THREADS, first_executors, prepared, take


def test_a_prepared_executor_is_taken_by_who_wants_one_of_its_kind() -> None:
    with prepared("thread", 3):
        other, first, second = take(SYNC, 1), take(THREADS, 3), take(THREADS, 3)
        pids = {each.process.pid for each in (other, first, second)}
        try:
            assert len(pids) == 3
            assert first.made_for == second.made_for == (THREADS, 3)
            assert first.process.pid < min(other.process.pid, second.process.pid)
        finally:
            for each in (other, first, second):
                each.close()


def test_those_that_nobody_took_are_ended() -> None:
    before = set(os.listdir("/proc/self/fd"))
    children = set(psutil.Process().children())
    with pytest.raises(RuntimeError, match="no store"), prepared("process", 2):
        raise RuntimeError("no store")
    assert set(os.listdir("/proc/self/fd")) == before
    assert set(psutil.Process().children()) <= children


def test_there_is_one_process_for_each_task_at_a_time_but_no_more_than_cpus() -> None:
    assert first_executors("process", 1) == (SYNC, 1, 1)
    assert first_executors("process", 10_000) == (SYNC, 1, os.cpu_count() or 1)
    assert first_executors("thread", 50) == (THREADS, 50, 1)
