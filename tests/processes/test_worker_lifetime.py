"""Workers that end when idle for long, or when their parent process is gone."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from nbqueue.errors import InvalidDuration
from nbqueue.worker.worker import Worker


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.mark.slow
def test_an_idle_worker_ends_and_no_sooner_than_its_time(lab: Any) -> None:
    with lab.worker(idle_timeout=2.5) as worker:
        # Longer than the time-out: a worker that runs a task is not idle.
        assert lab.value(lab.submit(nap, 3)) == 3
        ended_at = time.monotonic()
        assert worker.alive
        assert worker.wait(20) == 0
        assert time.monotonic() - ended_at >= 1.5
        assert "worker ends idle=2.5s" in worker.log()


def test_a_worker_ends_with_the_process_that_owns_it(lab: Any) -> None:
    words = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    owner = subprocess.Popen(words, stdin=subprocess.PIPE)
    try:
        with lab.worker(owner=owner.pid) as worker:
            assert lab.value(lab.submit(nap, 0)) == 0
            owner.kill()
            owner.communicate()
            assert worker.wait(20) == 0
    finally:
        owner.kill()
        owner.communicate()


def test_a_time_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(InvalidDuration, match="idle_timeout='soon'"):
        Worker(idle_timeout="soon")
