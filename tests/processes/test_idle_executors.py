"""``autoscale``: executors come with tasks that wait and go when idle, and tasks do not notice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest
from waits import let_time_pass

SECONDS = 0.2
PROGRAM = """
import sys
import nbqueue
from nbqueue.worker.executors import idle_executors
idle_executors.IDLE_SECONDS = float(sys.argv[2])
sys.exit(nbqueue.Worker(sys.argv[1], autoscale="1..3").run())
"""


def nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@pytest.mark.slow
def test_executors_come_with_the_backlog_and_go_when_idle(lab: Any) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, lab.url, str(SECONDS)],
        env={**os.environ, "NBQUEUE_KEY": "5b" * 32},
        stderr=subprocess.DEVNULL,
    )
    try:
        supervisor = psutil.Process(process.pid)
        first = lab.value(lab.submit(nap, 0))
        lab.wait_until(lambda: [each.pid for each in supervisor.children()] == [first])
        tasks = [lab.submit(nap, 0.7) for _ in range(6)]
        lab.wait_until(lambda: len(supervisor.children()) == 3)
        assert len({lab.value(task) for task in tasks}) == 3
        lab.wait_until(lambda: len(supervisor.children()) == 1)
        # Tasks that arrive just as executors end.
        tasks = []
        for _ in range(12):
            tasks += [lab.submit(nap, 0.01) for _ in range(3)]
            let_time_pass(0.12)
        for task in tasks:
            lab.value(task)
            assert lab.outcomes(task) == ["completed"]
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
