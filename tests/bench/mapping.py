"""E and F: CPU-bound maps, until all results are in the client."""

from __future__ import annotations

import time

from bench import Bench


def spin(milliseconds: float) -> float:
    """Use so much CPU time, whatever else the machine does."""
    end, turns = time.thread_time() + milliseconds / 1e3, 0
    while time.thread_time() < end:
        for number in range(100):
            turns += number & 7
    return milliseconds


def _map(bench: Bench, tasks: int, milliseconds: float) -> dict[str, float]:
    with bench.client() as q, bench.worker():
        q.map(spin, [milliseconds] * 8).results(60)
        began = time.perf_counter()
        found = q.map(spin, [milliseconds] * tasks).results(300)
        seconds = time.perf_counter() - began
    assert found == [milliseconds] * tasks
    return {"s": seconds}


def short(bench: Bench) -> dict[str, float]:
    """E: 1,000 tasks of 1 ms."""
    return _map(bench, bench.count(1_000), 1)


def longer(bench: Bench) -> dict[str, float]:
    """F: 200 tasks of 20 ms."""
    return _map(bench, bench.count(200), 20)
