"""G: an array as argument and result."""

from __future__ import annotations

import statistics
import time
from typing import Any

from bench import Bench


def echo(value: Any) -> Any:
    return value


def arrays(bench: Bench) -> dict[str, float]:
    """G: the argument and the result are an array of 1 MB, and of 10 MB."""
    import numpy

    figures = {}
    with bench.client() as q, bench.worker():
        for megabytes in (1, 10):
            array = numpy.random.default_rng(0).random(megabytes * 131_072)
            times = []
            for _ in range(2 + bench.count(10, least=1)):
                began = time.perf_counter()
                found = q.submit(echo, array).result(120)
                times.append((time.perf_counter() - began) * 1e3)
                assert found.nbytes == array.nbytes
            figures[f"{megabytes} MB, p50 ms"] = statistics.median(times[2:])
    return figures
