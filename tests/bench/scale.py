"""Scaling: more workers, more queues, more clients, more tasks at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from bench import TEXT, Bench, noop
from drain import fill, rate_together


def workers(bench: Bench) -> dict[str, float]:
    """1, 2 and 4 workers of one queue."""
    tasks = bench.count(20_000)
    return {
        f"{number} workers, tasks/s": rate_together(bench, ["default"], number, tasks)
        for number in (1, 2, 4)
    }


def queues(bench: Bench) -> dict[str, float]:
    """1, 4 and 16 queues of one worker."""
    tasks = bench.count(10_000, least=320)
    return {
        f"{number} queues, tasks/s": rate_together(
            bench, [f"q{each}" for each in range(number)], 1, tasks
        )
        for number in (1, 4, 16)
    }


# Clients that wait, each for a task of the same queue that is not due yet. Prints their CPU time.
_CLIENTS = """
import sys, time
import nbqueue
url, number = sys.argv[1], int(sys.argv[2])
clients = [nbqueue.connect(url) for _ in range(number)]
futures = [q.options(delay="1h").submit(sum, [1, 2]) for q in clients]
time.sleep(0.5)
began = time.process_time()
print("ready", flush=True)
sys.stdin.readline()
print(time.process_time() - began, flush=True)
"""


def clients(bench: Bench) -> dict[str, float]:
    """1, 10 and 100 clients waiting on a queue that runs other clients' tasks."""
    tasks, figures = bench.count(10_000), {}
    for number in (1, 10, 100):
        bench.redis.flushall()
        process = subprocess.Popen(
            [sys.executable, "-c", _CLIENTS, bench.url, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        fill(bench, tasks)
        began = time.perf_counter()
        with bench.worker():
            bench.wait_for(lambda: bench.completed() >= tasks)
            seconds = time.perf_counter() - began
        process.stdin.write("\n")
        process.stdin.flush()
        used = float(process.stdout.readline())
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        figures[f"{number} clients, drained in s"] = seconds
        figures[f"{number} clients, CPU each, us/task of others"] = used / number / tasks * 1e6
    return figures


async def sleeper(seconds: float) -> None:
    await asyncio.sleep(seconds)


def sleeps(bench: Bench) -> dict[str, float]:
    """10,000 coroutines that sleep for 0.1 s, 1,000 at once."""
    tasks = bench.count(10_000)
    with bench.client() as q, bench.worker(concurrency=1_000):
        q.submit(noop, 0, TEXT).result(60)
        began = time.perf_counter()
        q.map(sleeper, [0.1] * tasks).results(300)
        return {"s": time.perf_counter() - began}
