"""Base of every row: an empty store, a client, workers, and a size."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

import nbqueue

# What programs in Go do to the store is written there.
sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

#: With a number next to it, about 100 bytes of arguments.
TEXT = "x" * 80
CONCURRENCY = 2


class NotHere(Exception):
    """The row cannot be measured, for the reason in the text."""


@dataclass
class Bench:
    """The place and the size of a measurement."""

    url: str
    redis: redis.Redis
    quick: bool = False
    slow: bool = False

    def count(self, number: int, least: int = 20) -> int:
        """Return the number of tasks; few for a quick trial."""
        return max(number // 100, least) if self.quick else number

    @contextmanager
    def client(self) -> Iterator[nbqueue.Client]:
        """A client of the store, with nothing in it."""
        self.redis.flushall()
        q = nbqueue.connect(self.url)
        try:
            yield q
        finally:
            q.close()

    @contextmanager
    def worker(self, **settings: Any) -> Iterator[nbqueue.Worker]:
        """A running worker, at the defaults that a user of two CPUs gets."""
        settings.setdefault("concurrency", CONCURRENCY)
        settings.setdefault("log", "/dev/null")
        with nbqueue.Worker(self.url, **settings) as running:
            yield running

    def wait_for(self, fact: Callable[[], bool], seconds: float = 300.0) -> None:
        """Look every 10 ms, which costs the store next to nothing."""
        limit = time.monotonic() + seconds
        while not fact():
            if time.monotonic() > limit:
                raise NotHere(f"it did not end within {seconds:.0f} s")
            time.sleep(0.01)

    def completed(self, queue: str = "default") -> int:
        return int(self.redis.zcard(f"asynq:{{{queue}}}:completed"))


def noop(number: int, text: str) -> None:
    return None


def percentiles(values: Sequence[float], unit: str) -> dict[str, float]:
    """Return the median and the 95th percentile."""
    ordered = sorted(values)
    return {
        f"p50 {unit}": statistics.median(ordered),
        f"p95 {unit}": ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))],
    }
