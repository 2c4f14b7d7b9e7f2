"""The tab of the history: what each queue processed on each day."""

from __future__ import annotations

from nbqueue.broker.infos import DailyStats
from nbqueue.notebook.panel.tab import Context, Tab
from nbqueue.views import format as words
from nbqueue.views import html as h

_DAYS = 14


class HistoryTab(Tab):
    """Days as rows, queues as columns: processed, and how many of them failed."""

    name = "History"
    rest = 2.0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._by_queue: dict[str, list[DailyStats]] = {}

    def read(self) -> None:
        inspector = self.context.client.inspector
        self._by_queue = {
            name: inspector.history(name, _DAYS) for name in self.context.queue_names()
        }

    def body(self, acts: bool, live: bool) -> str:
        names = list(self._by_queue)
        if not names:
            return h.row(h.pale("no task was ever enqueued here"))
        most = max(
            (sum(self._by_queue[name][i].processed for name in names) for i in range(_DAYS)),
            default=0,
        )
        rows = []
        for i in range(_DAYS):
            days = [self._by_queue[name][i] for name in names]
            processed, failed = sum(d.processed for d in days), sum(d.failed for d in days)
            chart = h.stacked_bar(
                [("completed", processed - failed), ("failed", failed)],
                most or 1,
                label=f"{days[0].date}: {processed:,} processed, {failed:,} failed",
                height=6,
            )
            cells = [days[0].date.isoformat(), chart, f"{processed:,}", f"{failed:,}"]
            cells += [self._cell(day) for day in days] if len(names) > 1 else []
            rows.append(cells)
        heads = ["day (UTC)", "", "processed", "failed"]
        heads += names if len(names) > 1 else []
        count = len(heads)
        return h.table(heads, rows, caption=f"The last {_DAYS} days", numeric=range(2, count))

    @staticmethod
    def _cell(day: DailyStats) -> str:
        if not day.processed:
            return h.pale("–")
        failed = h.titled(f" {day.failed:,} failed", "failed") if day.failed else ""
        return f"{words.number(day.processed)}{failed}"
