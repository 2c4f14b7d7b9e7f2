"""H: from the command to the first task done."""

from __future__ import annotations

import subprocess
import sys
import time

from bench import TEXT, Bench, noop


def cold(bench: Bench) -> dict[str, float]:
    """H: `nbqueue worker`, with a task waiting, until its result is in the client."""
    command = [sys.executable, "-m", "nbqueue.cli.main", "worker", "--url", bench.url]
    with bench.client() as q:
        future = q.submit(noop, 0, TEXT)
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            future.result(60)
            return {"s": time.perf_counter() - began}
        finally:
            process.terminate()
            process.wait()
