"""`DailyHistory`: tasks of each queue by day, and attempts by type."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from nbqueue.dashboard.measures.type_totals import TypeTotals, totals_by_type
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.tables.column import COUNT, SECONDS, SHARE, Column
from nbqueue.dashboard.tables.paging import Paging
from nbqueue.dashboard.tables.table_model import TableModel

DAYS = 14
_MOST_ATTEMPTS = 20_000
_COLUMNS = 8
"""The number of queues with a column of their own at a time."""
_MANY_QUEUES = 100
_TYPES_SECONDS = 10.0


class DayLine(NamedTuple):
    """A day in UTC, with the attempts that ended on it. ``processed`` includes ``failed``."""

    key: str
    day: str
    """The date in ISO format."""
    processed: int
    failed: int
    by_queue: Mapping[str, tuple[int, int]]
    """Processed and failed attempts of each queue."""


class TypeLine(NamedTuple):
    """The attempts of one type. ``median`` and ``longest`` are durations in seconds."""

    key: str
    type: str
    attempts: int
    failed: int
    failed_share: float
    median: float | None
    longest: float | None


class TypeList(TableModel[TypeLine]):
    """The types of the attempts that are kept, those with the most failures first."""

    title = "Types"
    noun = "type"
    columns = (
        Column("type", "type"),
        Column("attempts", "attempts", COUNT),
        Column("failed", "failed", COUNT),
        Column("failed_share", "failed share", SHARE),
        Column("median", "half took at most", SECONDS),
        Column("longest", "longest", SECONDS),
    )

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self.paging = Paging(20)
        self._lines: list[TypeLine] = []
        self._read_at = 0.0

    @property
    def is_due(self) -> bool:
        """True if it was not read lately.

        There may be thousands of attempts: they are not read again at each event.
        """
        return not self._read_at or time.monotonic() - self._read_at > _TYPES_SECONDS

    def _all_rows(self) -> list[TypeLine]:
        if self.is_due:
            names = self.scope.queue_names()
            rows = self.scope.client._session.attempt_rows(names, limit=_MOST_ATTEMPTS)
            self._lines = [_type_line(totals) for totals in totals_by_type(rows)]
            self._read_at = time.monotonic()
        return self._lines


class DailyHistory(TableModel[DayLine]):
    """Processed and failed attempts of the last days, today first. `types` has the types."""

    title = "History"
    noun = "day"
    rest_seconds = 2.0
    columns = (
        Column("day", "day (UTC)"),
        Column("processed", "ended", COUNT),
        Column("failed", "failed", COUNT),
    )

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self.types = TypeList(scope)
        self.queue_paging = Paging(_COLUMNS)
        self.queues: list[str] = []
        """The queues that have a column on this page; none if there is only one queue."""
        self._days: list[DayLine] = []

    def read(self) -> None:
        super().read()
        self.types.read()

    def _all_rows(self) -> list[DayLine]:
        names = self.scope.queue_names()
        if self.types.is_due or len(names) <= _MANY_QUEUES or not self._days:
            by_queue = self.scope.client.inspector.histories(names, DAYS)
            self._days = [
                _day_line({name: (days[i].processed, days[i].failed)
                           for name, days in by_queue.items()},
                          next(iter(by_queue.values()))[i].date.isoformat())
                for i in range(DAYS if by_queue else 0)
            ]  # fmt: skip
        columns = self.queue_paging.of(names)
        self.queues = columns if len(names) > 1 else []
        last = max((i for i, day in enumerate(self._days) if day.processed), default=0)
        # Older days without a task are left out.
        return self._days[: last + 1]

    def turn(self, pages: int) -> None:
        self.queue_paging.turn(pages)


def _day_line(by_queue: Mapping[str, tuple[int, int]], day: str) -> DayLine:
    processed = sum(both[0] for both in by_queue.values())
    failed = sum(both[1] for both in by_queue.values())
    return DayLine(day, day, processed, failed, by_queue)


def _type_line(totals: TypeTotals) -> TypeLine:
    share = totals.failed / totals.attempts
    return TypeLine(
        totals.name,
        totals.name,
        totals.attempts,
        totals.failed,
        share,
        totals.median,
        totals.longest,
    )
