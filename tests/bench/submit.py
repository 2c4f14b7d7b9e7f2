"""A1 and A2: the speed at which tasks come into the store."""

from __future__ import annotations

import time

from bench import TEXT, Bench, noop


def one_by_one(bench: Bench) -> dict[str, float]:
    """A1: one call each, from one client."""
    tasks = bench.count(10_000)
    with bench.client() as q:
        q.submit(noop, 0, TEXT)
        began = time.perf_counter()
        for number in range(tasks):
            q.submit(noop, number, TEXT)
        return {"tasks/s": tasks / (time.perf_counter() - began)}


def mapped(bench: Bench) -> dict[str, float]:
    """A2: in bulk, with map."""
    tasks = bench.count(10_000)
    with bench.client() as q:
        q.submit(noop, 0, TEXT)
        began = time.perf_counter()
        q.map(noop, range(tasks), [TEXT] * tasks)
        return {"tasks/s": tasks / (time.perf_counter() - began)}
