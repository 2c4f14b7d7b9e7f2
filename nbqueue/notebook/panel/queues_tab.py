"""The tab of the queues: their tasks by state, their speed, and buttons to pause them."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from nbqueue.dashboard.measures.queue_pace import STEP_SECONDS
from nbqueue.dashboard.queue_list import QueueLine, QueueList
from nbqueue.notebook.panel.model_table import Cells, Drawing, foot, model_table, with_page
from nbqueue.notebook.panel.tab import Context, Tab
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h
from nbqueue.views.notices import notices_html
from nbqueue.views.plots.sparkline import spark


class QueuesTab(Tab):
    """All queues, a page at a time."""

    name = "Queues"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._queues = QueueList(context)
        self.tables = {"": self._queues}

    def body(self, acts: bool, live: bool) -> Markup:
        queues = self._queues
        chooser = h.NOTHING
        if live and (queues.is_filtered or queues.paging.is_needed(len(queues.rows))):
            part, args = "part of a name", {"name": "name"}
            chooser = h.row(
                controls.field(
                    queues.filters["name"],
                    "filter",
                    label=part.capitalize(),
                    placeholder=part,
                    args=args,
                    as_typed=True,
                )
            )
        if not queues.rows:
            none = "no queue has such a name" if queues.is_filtered else (
                "no task was ever enqueued here"
            )  # fmt: skip
            return chooser + h.row(h.pale(none))
        caption = fmt.count(queues.paging.total or 0, "queue")
        if queues.task_count is not None:
            caption += f", {fmt.count(queues.task_count, 'task')}"
        table = model_table(
            queues,
            Drawing(acts, live, self.context.now_ms),
            caption=with_page(caption, queues),
            cells=lambda row: self._cells(row, live),
            hidden=("failed_share",),
        )
        notices = h.join(notices_html(queues.notices))
        return chooser + notices + table + foot(queues, live=live)

    def _cells(self, row: QueueLine, live: bool) -> Cells:
        cells: dict[str, h.Content] = {
            "queue": h.strong(row.queue),
            "state": h.titled(row.state, row.fault) if row.fault else h.badge(row.state),
            "latency": fmt.span(row.latency),
            "per_second": h.unbroken(f"{row.per_second:,.1f}", _line(row.ended, "ended")),
            "failed": h.unbroken(
                f"{row.failed:,}",
                h.pale(fmt.share(row.failed_share)),
                _line(row.ended_badly, "failed"),
            ),
        }
        for state in self._queues.shown_states:
            cells[state] = _count(row.queue, state, getattr(row, state), live)
        return cells


def _line(counts: Sequence[int], what: str) -> Markup:
    """Return a sparkline of counts, or nothing if all are 0."""
    if not any(counts):
        return h.NOTHING
    return h.pale(spark(list(counts)), f"attempts that {what}, {STEP_SECONDS:.0f} seconds a block")


def _count(queue: str, state: str, count: int | None, live: bool) -> h.Content:
    if not count:
        return h.pale("?" if count is None else "0")
    if not live:
        return f"{count:,}"
    label = f"Show the {fmt.count(count, f'{state} task')} of {queue}"
    return controls.link(f"{count:,}", "queue", label=label, args={"queue": queue, "state": state})
