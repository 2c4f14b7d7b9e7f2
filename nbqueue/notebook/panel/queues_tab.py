"""The tab of the queues: their tasks by state, their speed, and buttons to pause them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from nbqueue.broker.reads.models import QueueInfo
from nbqueue.dashboard.paging import Paging
from nbqueue.dashboard.queue_pace import STEP_SECONDS, QueuePace
from nbqueue.dashboard.task_list import STATES
from nbqueue.notebook.panel.tab import Context, Tab, pager, with_page
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h
from nbqueue.views.plots.sparkline import spark
from nbqueue.wire import states

# A column for a state that no task is in would only push the others apart.
_ALWAYS = frozenset((states.PENDING, states.ACTIVE, states.ARCHIVED, states.COMPLETED))


class QueuesTab(Tab):
    """All queues, a page at a time."""

    name = "Queues"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._infos: list[QueueInfo] = []
        self._paces: dict[str, QueuePace] = {}
        self._paging = Paging()
        self._filter = ""

    def read(self) -> None:
        inspector, now = self.context.client.inspector, time.monotonic()
        names = [name for name in self.context.queue_names() if self._filter in name]
        # Only these are read: each queue costs the store some work, and there may be thousands.
        self._infos = inspector.queue_infos(self._paging.of(names))
        for info in self._infos:
            pace = self._paces.setdefault(info.queue, QueuePace())
            pace.add(now, info.processed_total, info.failed_total)

    def body(self, acts: bool, live: bool) -> Markup:
        shown_count, total_count = len(self._infos), self._paging.total or 0
        has_filter = live and (bool(self._filter) or self._paging.is_needed(shown_count))
        chooser = h.NOTHING
        if has_filter:
            part = "part of a name"
            chooser = h.row(
                controls.field(self._filter, "filter", label=part.capitalize(), placeholder=part)
            )
        if not self._infos:
            none = "no queue has such a name" if self._filter else "no task was ever enqueued here"
            return chooser + h.row(h.pale(none))
        shown = [
            state
            for state in STATES
            if state in _ALWAYS or any(getattr(info, state) for info in self._infos)
        ]
        heads = ["queue", "", *shown, "waits", "per second", "today", "failed"]
        if acts:
            heads.append("")
        total = sum(info.size for info in self._infos)
        caption = fmt.count(total_count, "queue")
        if shown_count == total_count:
            caption += f", {fmt.count(total, 'task')}"
        caption = with_page(caption, self._paging, shown_count)
        rows = [self._row(info, shown, acts, live) for info in self._infos]
        table = h.table(heads, rows, caption=caption, numeric=range(2, 6 + len(shown)))
        return chooser + table + pager(self._paging, shown_count, live=live)

    def _row(
        self, info: QueueInfo, shown: Sequence[str], acts: bool, live: bool
    ) -> list[h.Content]:
        pace = self._paces[info.queue]
        badge = h.badge("paused" if info.paused else "running")
        if info.fault:
            badge = h.titled("cannot be read" if info.unknown else "not served", info.fault)
        cells: list[h.Content] = [h.strong(info.queue), badge]
        for state in shown:
            count = getattr(info, state)
            is_known = state not in info.unknown
            cells.append(_count(info.queue, state, count, live) if is_known else h.pale("?"))
        share = 100 * info.failed / info.processed if info.processed else 0.0
        cells += [
            fmt.span(info.latency),
            h.unbroken(f"{pace.per_second:,.1f}", _line(pace.done, "ended")),
            f"{info.processed:,}",
            h.unbroken(f"{info.failed:,}", h.pale(f"{share:.0f}%"), _line(pace.failed, "failed")),
        ]
        if acts:
            cells.append(self._buttons(info))
        return cells

    def _buttons(self, info: QueueInfo) -> Markup:
        queue = {"queue": info.queue}
        if info.paused:
            flow = controls.button("Resume", "unpause", label=f"Resume {info.queue}", args=queue)
        else:
            flow = controls.button("Pause", "pause", label=f"Pause {info.queue}", args=queue)
        waiting = info.size - info.active
        clear = controls.button(
            "Clear",
            "clear",
            label=f"Delete all tasks of {info.queue} that do not run",
            args=queue,
            ask=f"Delete {fmt.count(waiting, 'task')}?",
            disabled=not waiting,
        )
        return h.row(flow, clear, gap=4, wraps=False)

    def act(self, action: str, args: dict[str, Any]) -> None:
        inspector, queue = self.context.client.inspector, str(args.get("queue"))
        if action == "filter":
            self._filter = str(args.get("value", "")).strip()
            self._paging.restart()
        if self._turn(action, args, self._paging) or self.context.read_only:
            return
        if action == "pause":
            inspector.pause(queue)
            self.context.message = f"{queue} is paused: what runs goes on, and nothing new begins"
        elif action == "unpause":
            inspector.unpause(queue)
            self.context.message = f"{queue} goes on"
        elif action == "clear":
            count = 0
            for state in STATES:
                if state == states.ACTIVE:
                    continue
                if state == states.AGGREGATING:
                    for group in inspector.groups(queue):
                        count += len(inspector.delete(queue=queue, state=state, group=group))
                else:
                    count += len(inspector.delete(queue=queue, state=state))
            self.context.message = f"{fmt.count(count, 'task')} of {queue} deleted"


def _line(counts: Sequence[int], what: str) -> Markup:
    """Return a sparkline of counts, or nothing if all are 0."""
    if not any(counts):
        return h.NOTHING
    return h.pale(spark(list(counts)), f"tasks that {what}, {STEP_SECONDS:.0f} seconds a block")


def _count(queue: str, state: str, count: int, live: bool) -> h.Content:
    if not count:
        return h.pale("0")
    if not live:
        return f"{count:,}"
    label = f"Show the {fmt.count(count, f'{state} task')} of {queue}"
    return controls.link(f"{count:,}", "queue", label=label, args={"queue": queue, "state": state})
