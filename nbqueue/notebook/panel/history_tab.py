"""The tab of the history: tasks of each queue by day, and attempts by type."""

from __future__ import annotations

import time
from typing import Any

from markupsafe import Markup

from nbqueue.broker.reads.models import DailyStats
from nbqueue.dashboard.paging import Paging
from nbqueue.dashboard.type_totals import TypeTotals, totals_by_type
from nbqueue.notebook.panel.tab import Context, Tab, pager
from nbqueue.views import format as fmt
from nbqueue.views import html as h

_DAYS = 14
_MOST_ATTEMPTS = 20_000
_MOST_TYPES = 20
_COLUMNS = 8
"""The number of queues with a column of their own at a time."""
_MANY_QUEUES = 100
_TYPES_SECONDS = 10.0


class HistoryTab(Tab):
    """Processed and failed tasks, with days as rows and queues as columns."""

    name = "History"
    rest = 2.0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._by_queue: dict[str, list[DailyStats]] = {}
        self._types: list[TypeTotals] = []
        self._types_at = 0.0
        self._paging = Paging(_COLUMNS)

    def read(self) -> None:
        inspector, names = self.context.client.inspector, self.context.queue_names()
        now = time.monotonic()
        is_due = not self._types_at or now - self._types_at > _TYPES_SECONDS
        if is_due or len(names) <= _MANY_QUEUES:
            self._by_queue = inspector.histories(names, _DAYS)
        if not self._types_at or now - self._types_at > _TYPES_SECONDS:
            # There may be thousands of attempts: they are not read again at each event.
            session = self.context.client._session
            self._types = totals_by_type(session.attempt_rows(names, limit=_MOST_ATTEMPTS))
            self._types_at = now

    def body(self, acts: bool, live: bool) -> Markup:
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
            chart = h.element("div", chart, style="min-width:120px")
            cells: list[h.Content] = [
                days[0].date.isoformat(),
                chart,
                f"{processed:,}",
                f"{failed:,}",
            ]
            if len(names) > 1:
                cells += [self._cell(self._by_queue[name][i]) for name in columns]
            rows.append(cells)
        heads = ["day (UTC)", "", "processed", "failed"]
        heads += columns if len(names) > 1 else []
        range_text = self._paging.text(len(columns))
        caption = f"Days, of the last {_DAYS}" + (f"; queues {range_text}" if range_text else "")
        days_table = h.table(heads, rows, caption=caption, numeric=range(2, len(heads)))
        return self._types_table() + days_table + pager(self._paging, len(columns), live=live)

    def act(self, action: str, args: dict[str, Any]) -> None:
        self._turn(action, args, self._paging)

    def _types_table(self) -> Markup:
        """Return a table of types, those with the most failures first."""
        if not self._types:
            return h.NOTHING
        rows = [
            [
                fmt.shortened(totals.name, 60),
                f"{totals.attempts:,}",
                f"{totals.failed:,}",
                f"{100 * totals.failed / totals.attempts:.0f}%",
                fmt.span(totals.median),
                fmt.span(totals.longest),
            ]
            for totals in self._types[:_MOST_TYPES]
        ]
        more = len(self._types) - len(rows)
        caption = "Types, of the attempts that are kept" + (f"; {more:,} more" if more else "")
        heads = ["type", "attempts", "failed", "", "half took at most", "longest"]
        return h.table(heads, rows, caption=caption, numeric=range(1, 6))

    def _days_to_show(self) -> int:
        """Return the number of days to show: older ones without a task are left out."""
        busy = [i for days in self._by_queue.values() for i in range(_DAYS) if days[i].processed]
        return 1 + max(busy, default=0)

    @staticmethod
    def _cell(day: DailyStats) -> Markup:
        if not day.processed:
            return h.pale("–")
        failed = h.pale(f"{day.failed:,} failed") if day.failed else ""
        return h.unbroken(fmt.number(day.processed), failed)
