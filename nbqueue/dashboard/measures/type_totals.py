"""`TypeTotals`: the attempts of each type summed up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import NamedTuple

from nbqueue.wire.decoding import time_ms

_FAILED = frozenset(("retry", "archived", "lost"))


class TypeTotals(NamedTuple):
    """The attempts of one type. ``median`` and ``longest`` are durations in seconds."""

    name: str
    attempts: int
    failed: int
    median: float | None
    longest: float | None


def totals_by_type(rows: Iterable[Mapping[str, str]]) -> list[TypeTotals]:
    """Sum up rows of attempts by type. Types with the most failures come first."""
    outcomes: dict[str, list[str]] = {}
    seconds: dict[str, list[float]] = {}
    for row in rows:
        name = row.get("type", "")
        outcomes.setdefault(name, []).append(row.get("outcome", ""))
        started_ms = time_ms(row.get("started_at", ""))
        finished_ms = time_ms(row.get("finished_at", ""))
        if started_ms is not None and finished_ms is not None:
            seconds.setdefault(name, []).append(max(0, finished_ms - started_ms) / 1000)
    found = [
        TypeTotals(
            name,
            len(ends),
            sum(outcome in _FAILED for outcome in ends),
            median(seconds[name]) if name in seconds else None,
            max(seconds[name]) if name in seconds else None,
        )
        for name, ends in outcomes.items()
    ]
    return sorted(found, key=lambda totals: (-totals.failed, -totals.attempts, totals.name))
