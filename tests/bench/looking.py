"""N: the delay until a notebook shows something."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from bench import Bench
from drain import fill

_IMPORT = """
import time
began = time.perf_counter()
import nbqueue
print(time.perf_counter() - began)
"""


def looks(bench: Bench) -> dict[str, float]:
    """N: `import nbqueue`; a frame of all tasks; a panel on a long line."""
    times = []
    for _ in range(bench.count(5, least=1)):
        command = [sys.executable, "-c", _IMPORT]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append(float(answer.stdout) * 1e3)
    figures = {"import, ms": statistics.median(times)}
    with bench.client() as q:
        # Neither is in every version; a figure that is not there is not printed.
        if hasattr(q, "tasks"):
            tasks = bench.count(100_000 if bench.slow else 20_000)
            fill(bench, tasks)
            began = time.perf_counter()
            frame = q.tasks()
            figures[f"tasks() of {tasks:,}, s"] = time.perf_counter() - began
            assert len(frame) == tasks
        if hasattr(q, "panel"):
            bench.redis.flushall()
            tasks = bench.count(1_000_000 if bench.slow else 20_000)
            fill(bench, tasks)
            began = time.perf_counter()
            q.panel().html(live=True)
            figures[f"panel on {tasks:,}, s"] = time.perf_counter() - began
    return figures
