"""The tab of the queues: how much lies in each, how fast it goes, and whether it is paused."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from nbqueue.broker.reads.models import QueueInfo
from nbqueue.dashboard.paging import Paging
from nbqueue.notebook.panel.tab import Context, Tab, pager, with_page
from nbqueue.views import format as words
from nbqueue.views import html as h
from nbqueue.views.plots.sparkline import spark
from nbqueue.wire import states

_STATES = (
    states.PENDING,
    states.ACTIVE,
    states.SCHEDULED,
    states.RETRY,
    states.ARCHIVED,
    states.COMPLETED,
    states.AGGREGATING,
)
# A column for a state that no task is in would only push the others apart.
_ALWAYS = frozenset((states.PENDING, states.ACTIVE, states.ARCHIVED, states.COMPLETED))
_POINTS = 30
_STEP_SECONDS = 2.0


class _Pace:
    """How many tasks ended, and failed, in each of the last steps of time."""

    def __init__(self) -> None:
        self.done: deque[int] = deque(maxlen=_POINTS)
        self.failed: deque[int] = deque(maxlen=_POINTS)
        self._last: tuple[float, int, int] | None = None
        self.per_second = 0.0

    def add(self, now: float, processed: int, failed: int) -> None:
        if self._last is None:
            self._last = (now, processed, failed)
            return
        at, before, failed_before = self._last
        if now - at < _STEP_SECONDS:
            return
        self.done.append(max(0, processed - before))
        self.failed.append(max(0, failed - failed_before))
        self.per_second = max(0, processed - before) / (now - at)
        self._last = (now, processed, failed)


class QueuesTab(Tab):
    """All queues, with the states of their tasks."""

    name = "Queues"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._infos: list[QueueInfo] = []
        self._paces: dict[str, _Pace] = {}
        self._paging = Paging()
        self._filter = ""

    def read(self) -> None:
        inspector, now = self.context.client.inspector, time.monotonic()
        names = [name for name in self.context.queue_names() if self._filter in name]
        # Only these are read: of thousands of queues, each takes the store some work.
        self._infos = inspector.queue_infos(self._paging.of(names))
        for info in self._infos:
            pace = self._paces.setdefault(info.queue, _Pace())
            pace.add(now, info.processed_total, info.failed_total)

    def body(self, acts: bool, live: bool) -> str:
        shown_count, total_count = len(self._infos), self._paging.total or 0
        has_filter = live and (bool(self._filter) or self._paging.is_needed(shown_count))
        chooser = h.row(
            h.field(self._filter, "filter", label="Part of a name", placeholder="part of a name")
        ) if has_filter else ""  # fmt: skip
        if not self._infos:
            none = "no queue has such a name" if self._filter else "no task was ever enqueued here"
            return chooser + h.row(h.pale(none))
        shown = [
            state
            for state in _STATES
            if state in _ALWAYS or any(getattr(info, state) for info in self._infos)
        ]
        heads = ["queue", "", *shown, "waits", "per second", "today", "failed"]
        if acts:
            heads.append("")
        total = sum(info.size for info in self._infos)
        caption = words.count(total_count, "queue")
        if shown_count == total_count:
            caption += f", {words.count(total, 'task')}"
        caption = with_page(caption, self._paging, shown_count)
        rows = [self._row(info, shown, acts, live) for info in self._infos]
        table = h.table(heads, rows, caption=caption, numeric=range(2, 6 + len(shown)))
        return chooser + table + pager(self._paging, shown_count, live=live)

    def _row(self, info: QueueInfo, shown: Sequence[str], acts: bool, live: bool) -> list[str]:
        pace = self._paces[info.queue]
        badge = words.badge_html("paused" if info.paused else "running")
        if info.fault:
            badge = h.titled("cannot be read" if info.unknown else "not served", info.fault)
        cells = [h.strong(info.queue), badge]
        for state in shown:
            count = getattr(info, state)
            is_known = state not in info.unknown
            cells.append(_count(info.queue, state, count, live) if is_known else h.pale("?"))
        share = 100 * info.failed / info.processed if info.processed else 0.0
        cells += [
            words.span(info.latency),
            h.close(f"{pace.per_second:,.1f}", _line(pace.done, "ended")),
            f"{info.processed:,}",
            h.close(f"{info.failed:,}", h.pale(f"{share:.0f}%"), _line(pace.failed, "failed")),
        ]
        if acts:
            cells.append(self._buttons(info))
        return cells

    def _buttons(self, info: QueueInfo) -> str:
        queue = {"queue": info.queue}
        if info.paused:
            flow = h.button("Resume", "unpause", label=f"Resume {info.queue}", args=queue)
        else:
            flow = h.button("Pause", "pause", label=f"Pause {info.queue}", args=queue)
        waiting = info.size - info.active
        clear = h.button(
            "Clear",
            "clear",
            label=f"Delete all tasks of {info.queue} that do not run",
            args=queue,
            ask=f"Delete {words.count(waiting, 'task')}?",
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
            self.context.said = f"{queue} is paused: what runs goes on, and nothing new begins"
        elif action == "unpause":
            inspector.unpause(queue)
            self.context.said = f"{queue} goes on"
        elif action == "clear":
            count = 0
            for state in _STATES:
                if state == states.ACTIVE:
                    continue
                if state == states.AGGREGATING:
                    for group in inspector.groups(queue):
                        count += len(inspector.delete(queue=queue, state=state, group=group))
                else:
                    count += len(inspector.delete(queue=queue, state=state))
            self.context.said = f"{words.count(count, 'task')} of {queue} deleted"


def _line(counts: Sequence[int], what: str) -> str:
    """How many in each of the last moments, as a picture; nothing where there is nothing to see."""
    if not any(counts):
        return ""
    return h.pale(spark(list(counts)), f"tasks that {what}, {_STEP_SECONDS:.0f} seconds a block")


def _count(queue: str, state: str, count: int, live: bool) -> str:
    if not count:
        return h.pale("0")
    if not live:
        return f"{count:,}"
    return h.link(
        f"{count:,}", "queue", label=f"Show the {words.count(count, f'{state} task')} of {queue}",
        args={"queue": queue, "state": state},
    )  # fmt: skip
