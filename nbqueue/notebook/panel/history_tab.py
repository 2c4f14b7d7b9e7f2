"""The tab of the history: what each queue processed on each day, and how each type fared."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any, NamedTuple

from nbqueue.broker.reads.models import DailyStats
from nbqueue.dashboard.paging import Paging
from nbqueue.notebook.panel.tab import Context, Tab, pager
from nbqueue.printable import escape
from nbqueue.views import format as words
from nbqueue.views import html as h
from nbqueue.wire.decoding import time_ms

_DAYS = 14
_FAILED = frozenset(("retry", "archived", "lost"))
_MOST_ATTEMPTS = 20_000
_MOST_TYPES = 20
_COLUMNS = 8
"""How many queues have a column of their own at a time."""
_MANY_QUEUES = 100
_TYPES_SECONDS = 10.0


class TypeStats(NamedTuple):
    """How the attempts of one type fared. ``half`` and ``longest`` are seconds."""

    name: str
    attempts: int
    failed: int
    half: float | None
    longest: float | None


def stats_of(rows: Iterable[Mapping[str, str]]) -> list[TypeStats]:
    """Sum attempts up by type: those first of which most failed."""
    outcomes: dict[str, list[str]] = {}
    spans: dict[str, list[float]] = {}
    for row in rows:
        name = row.get("type", "")
        outcomes.setdefault(name, []).append(row.get("outcome", ""))
        began, ended = row.get("started_at", ""), row.get("finished_at", "")
        began_ms, ended_ms = time_ms(began), time_ms(ended)
        if began_ms is not None and ended_ms is not None:
            spans.setdefault(name, []).append(max(0, ended_ms - began_ms) / 1000)
    found = [
        TypeStats(
            name,
            len(ends),
            sum(word in _FAILED for word in ends),
            median(spans[name]) if name in spans else None,
            max(spans[name]) if name in spans else None,
        )
        for name, ends in outcomes.items()
    ]
    return sorted(found, key=lambda stats: (-stats.failed, -stats.attempts, stats.name))


class HistoryTab(Tab):
    """Days as rows, queues as columns: processed, and how many of them failed."""

    name = "History"
    rest = 2.0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._by_queue: dict[str, list[DailyStats]] = {}
        self._types: list[TypeStats] = []
        self._types_at = 0.0
        self._paging = Paging(_COLUMNS)

    def read(self) -> None:
        inspector, names = self.context.client.inspector, self.context.queue_names()
        now = time.monotonic()
        is_due = not self._types_at or now - self._types_at > _TYPES_SECONDS
        if is_due or len(names) <= _MANY_QUEUES:
            self._by_queue = inspector.histories(names, _DAYS)
        if not self._types_at or now - self._types_at > _TYPES_SECONDS:
            # Ten thousands of attempts are not read again at each event.
            session = self.context.client._session
            self._types = stats_of(session.attempt_rows(names, limit=_MOST_ATTEMPTS))
            self._types_at = now

    def body(self, acts: bool, live: bool) -> str:
        names = list(self._by_queue)
        if not names:
            return h.row(h.pale("no task was ever enqueued here"))
        most = max(
            (sum(self._by_queue[name][i].processed for name in names) for i in range(_DAYS)),
            default=0,
        )
        columns = self._paging.of(names)
        rows = []
        for i in range(self._days_to_show()):
            days = [self._by_queue[name][i] for name in names]
            processed, failed = sum(d.processed for d in days), sum(d.failed for d in days)
            chart = h.stacked_bar(
                [("completed", processed - failed), ("failed", failed)],
                most or 1,
                label=f"{days[0].date}: {processed:,} processed, {failed:,} failed",
                height=6,
            )
            chart = f'<div style="min-width:120px">{chart}</div>'
            cells = [days[0].date.isoformat(), chart, f"{processed:,}", f"{failed:,}"]
            if len(names) > 1:
                cells += [self._cell(self._by_queue[name][i]) for name in columns]
            rows.append(cells)
        heads = ["day (UTC)", "", "processed", "failed"]
        heads += columns if len(names) > 1 else []
        said = self._paging.text(len(columns))
        caption = f"Days, of the last {_DAYS}" + (f"; queues {said}" if said else "")
        days_table = h.table(heads, rows, caption=caption, numeric=range(2, len(heads)))
        return self._types_table() + days_table + pager(self._paging, len(columns), live=live)

    def act(self, action: str, args: dict[str, Any]) -> None:
        self._turn(action, args, self._paging)

    def _types_table(self) -> str:
        """What was done of each type, those first of which most failed."""
        if not self._types:
            return ""
        rows = [
            [
                escape(words.shortened(stats.name, 60)),
                f"{stats.attempts:,}",
                f"{stats.failed:,}",
                f"{100 * stats.failed / stats.attempts:.0f}%",
                words.span(stats.half),
                words.span(stats.longest),
            ]
            for stats in self._types[:_MOST_TYPES]
        ]
        more = len(self._types) - len(rows)
        caption = "Types, of the attempts that are kept" + (f"; {more:,} more" if more else "")
        heads = ["type", "attempts", "failed", "", "half took at most", "longest"]
        return h.table(heads, rows, caption=caption, numeric=range(1, 6))

    def _days_to_show(self) -> int:
        """The days come newest first; those before anything happened are left out."""
        busy = [i for days in self._by_queue.values() for i in range(_DAYS) if days[i].processed]
        return 1 + max(busy, default=0)

    @staticmethod
    def _cell(day: DailyStats) -> str:
        if not day.processed:
            return h.pale("–")
        failed = h.pale(f"{day.failed:,} failed") if day.failed else ""
        return h.close(words.number(day.processed), failed)
