"""H: from the command to the first task done."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import cache

from bench import TEXT, Bench, noop


@cache
def compiled() -> dict[str, str]:
    """An environment with compiled files, as pip leaves them."""
    folder = tempfile.mkdtemp(prefix="nbqueue-bench-")
    wanted = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
    wanted.pop("PYTHONDONTWRITEBYTECODE", None)
    everything = "import nbqueue.cli.main, nbqueue.worker.wiring, nbqueue.executor.sync_executor"
    subprocess.run([sys.executable, "-c", everything], env=wanted, check=True)
    return wanted


def cold(bench: Bench) -> dict[str, float]:
    """H: `nbqueue worker`, with a task waiting, until its result is in the client."""
    command = [sys.executable, "-m", "nbqueue.cli.main", "worker", "--url", bench.url]
    with bench.client() as q:
        environment = compiled()
        future = q.submit(noop, 0, TEXT)
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            future.result(60)
            return {"s": time.perf_counter() - began}
        finally:
            process.terminate()
            process.wait()
