"""Do short tasks wait behind long ones? Measured on 4 executors.

5% of the tasks take 1 s, 95% take 1 ms.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Sequence

from bench import Bench

SLOTS = 4
LONG, SHORT = 1.0, 0.001
#: Tasks a second: the slots are busy for six tenths of the time.
RATE = 0.6 * SLOTS / (0.05 * LONG + 0.95 * SHORT)


def work(seconds: float) -> int:
    began = time.monotonic_ns()
    time.sleep(seconds)
    return began


def one_at_a_time(arrivals: Sequence[float], lengths: Sequence[float]) -> list[float]:
    """Return ideal waits: each free slot takes the next task at no cost."""
    free, waits = [0.0] * SLOTS, []
    for arrival, length in zip(arrivals, lengths, strict=True):
        start = max(arrival, heapq.heappop(free))
        heapq.heappush(free, start + length)
        waits.append(start - arrival)
    return waits


def _last_of_a_hundred(waits: Sequence[float], lengths: Sequence[float]) -> float:
    """Milliseconds that one in a hundred short tasks exceeds."""
    of_short = sorted(w for w, length in zip(waits, lengths, strict=True) if length == SHORT)
    return of_short[min(len(of_short) - 1, int(len(of_short) * 0.99))] * 1e3


def mixed(bench: Bench) -> dict[str, float]:
    """Measure waits of short tasks, arriving singly or at once, and the ideal.

    The ideal takes tasks one at a time.
    """
    tasks = bench.count(800, least=40)
    chance = random.Random(1)
    lengths = [LONG if number % 20 == 10 else SHORT for number in range(tasks)]
    chance.shuffle(lengths)
    moments, now = [], 0.0
    for _ in lengths:
        now += chance.expovariate(RATE)
        moments.append(now)
    figures = {}
    with bench.client() as q, bench.worker(concurrency=SLOTS):
        # Lets the worker learn that tasks are short, which is when it fetches many at once.
        q.map(work, [SHORT] * 200).results(60)
        for name, times in (("arriving", moments), ("at once", [0.0] * tasks)):
            submitted, futures = [], []
            began = time.monotonic()
            for moment, length in zip(times, lengths, strict=True):
                time.sleep(max(0.0, began + moment - time.monotonic()))
                submitted.append(time.monotonic_ns())
                futures.append(q.submit(work, length))
            starts = [future.result(300) for future in futures]
            waits = [(s - at) / 1e9 for s, at in zip(starts, submitted, strict=True)]
            arrivals = [(at - submitted[0]) / 1e9 for at in submitted]
            ideal = one_at_a_time(arrivals, lengths)
            figures[f"{name}, p99 wait ms"] = _last_of_a_hundred(waits, lengths)
            figures[f"{name}, ideal p99 ms"] = _last_of_a_hundred(ideal, lengths)
    return figures
