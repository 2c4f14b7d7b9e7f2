"""The tab of the schedules: their rules, next and last runs, and history."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from nbqueue.cron import shown_zone
from nbqueue.dashboard.schedule_list import ScheduledRun, ScheduleLine, ScheduleList
from nbqueue.dashboard.tables.task_key import split_key
from nbqueue.notebook.panel.model_table import (
    Cells,
    Drawing,
    foot,
    model_table,
    task_name,
    with_page,
)
from nbqueue.notebook.panel.tab import Context, Tab
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h


class SchedulesTab(Tab):
    """The schedules, a page at a time, and the history of one."""

    name = "Schedules"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._schedules = ScheduleList(context)
        self.tables = {"": self._schedules, "history": self._schedules.history}

    def read(self) -> None:
        self._schedules.read()

    def body(self, acts: bool, live: bool) -> Markup:
        schedules, drawing = self._schedules, Drawing(acts, live, self.context.now_ms)
        if not schedules.rows:
            return h.row(
                h.pale("no schedules:"),
                h.code('q.schedule(fn, "@hourly")') + h.pale(" makes one"),
                gap=4,
            )
        caption = fmt.count(schedules.paging.total or 0, "schedule")
        table = model_table(
            schedules,
            drawing,
            caption=with_page(caption, schedules),
            cells=lambda row: _cells(row, drawing),
        )
        return table + foot(schedules, live=live) + self._history(drawing)

    def _history(self, drawing: Drawing) -> Markup:
        history, opened = self._schedules.history, self._schedules.opened
        if not opened:
            return h.NOTHING
        queue, schedule_id = split_key(opened)

        def cells(row: ScheduledRun) -> Cells:
            task = h.pale("–")
            if row.task_id:
                task = task_name(queue, row.task_id, live=drawing.live)
            return {"task_id": task}

        if not history.rows:
            none = history.note or f"{schedule_id} was not due so far"
            return h.keyed(f"history {opened}", h.row(h.pale(none)))
        caption = with_page(f"What became of {schedule_id}, newest first", history)
        table = model_table(history, drawing, table="history", caption=caption, cells=cells)
        return h.keyed(f"history {opened}", table)

    def act(self, action: str, args: dict[str, Any]) -> None:
        if action == "open":
            self._schedules.open(str(args.get("id")))
        elif action == "spec":
            spec = str(args.get("value", ""))
            self.context.message = self._schedules.change_spec(str(args.get("id")), spec)
        else:
            super().act(action, args)


def _cells(row: ScheduleLine, drawing: Drawing) -> Cells:
    args = {"id": row.key}
    name = h.strong(row.id)
    if drawing.live:
        label = f"Show the history of {row.id}"
        name = controls.link(row.id, "open", label=label, args=args)
    when = h.code(row.spec or "?")
    if drawing.acts and row.spec:
        label = f"When {row.id} runs"
        when = controls.field(row.spec, "spec", label=label, width=120, args=args)
    return {
        "id": name,
        "state": h.titled(row.state, row.fault) if row.fault else h.badge(row.state),
        "spec": h.join([when, h.pale(row.tz)], " ") if row.tz else when,
        "type": fmt.shortened(row.type, 40),
        "next_ms": _next(row, drawing.now_ms),
    }


def _next(row: ScheduleLine, now_ms: int) -> Markup:
    if row.next_ms is None:
        return h.pale("never")
    left = (row.next_ms - now_ms) / 1000
    moment = fmt.zoned_time(row.next_ms, shown_zone(row.spec, row.tz or "UTC"))
    return h.unbroken(h.titled(fmt.ago(-left) if left > 0 else "now", moment))
