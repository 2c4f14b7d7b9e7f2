"""The tab of the history: tasks of each queue by day, and attempts by type."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from nbqueue.dashboard.daily_history import DAYS, DailyHistory, DayLine, TypeLine
from nbqueue.dashboard.tables.column import COUNT, Column
from nbqueue.notebook.panel.model_table import Cells, Drawing, foot, model_table, pager, with_page
from nbqueue.notebook.panel.tab import Context, Tab
from nbqueue.views import format as fmt
from nbqueue.views import html as h
from nbqueue.wire import states


class HistoryTab(Tab):
    """Processed and failed tasks, with days as rows and queues as columns."""

    name = "History"
    rest = DailyHistory.rest_seconds

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._days = DailyHistory(context)
        self.tables = {"": self._days, "types": self._days.types}

    def read(self) -> None:
        self._days.read()

    def body(self, acts: bool, live: bool) -> Markup:
        days, drawing = self._days, Drawing(acts, live, self.context.now_ms)
        if not days.rows:
            return h.row(h.pale("no task was ever enqueued here"))
        most = max(day.processed for day in days.rows)
        queues = [Column(f"queue {name}", name, COUNT, can_sort=False) for name in days.queues]
        chart = Column("chart", "", can_sort=False)
        range_text = days.queue_paging.text(len(days.queues))
        caption = f"Days, of the last {DAYS}" + (f"; queues {range_text}" if range_text else "")
        table = model_table(
            days,
            drawing,
            caption=caption,
            cells=lambda row: _day_cells(row, most, days.queues),
            more=(chart, *queues),
        )
        pages = h.NOTHING
        if live and range_text:
            pages = h.row(*pager(days.queue_paging, len(days.queues)), gap=6)
        return self._types(drawing) + table + pages + foot(days, live=live)

    def _types(self, drawing: Drawing) -> Markup:
        types = self._days.types
        if not types.rows:
            return h.NOTHING

        def cells(row: TypeLine) -> Cells:
            return {"type": fmt.shortened(row.type, 60)}

        caption = with_page("Types, of the attempts that are kept", types)
        table = model_table(types, drawing, table="types", caption=caption, cells=cells)
        return table + foot(types, live=drawing.live, table="types")


def _day_cells(day: DayLine, most: int, queues: Sequence[str]) -> Cells:
    chart = h.stacked_bar(
        [(states.COMPLETED, day.processed - day.failed), ("failed", day.failed)],
        most or 1,
        label=f"{day.day}: {day.processed:,} ended, {day.failed:,} failed",
        height=6,
    )
    cells: dict[str, h.Content] = {"chart": h.element("div", chart, style="min-width:100px")}
    for queue in queues:
        processed, failed = day.by_queue.get(queue, (0, 0))
        cells[f"queue {queue}"] = h.pale("–") if not processed else h.unbroken(
            fmt.number(processed), h.pale(f"{failed:,} failed") if failed else ""
        )  # fmt: skip
    return cells
