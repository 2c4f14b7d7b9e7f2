"""The tab of the schedules: what runs when."""

from __future__ import annotations

from html import escape
from typing import Any

from nbqueue.broker.infos import SchedulerEntry
from nbqueue.clock import to_ms
from nbqueue.notebook.panel.tab import Context, Tab
from nbqueue.views import format as words
from nbqueue.views import html as h


class SchedulesTab(Tab):
    """Schedules, with their next and last run."""

    name = "Schedules"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._entries: list[SchedulerEntry] = []

    def read(self) -> None:
        self._entries = self.context.client.inspector.scheduler_entries()

    def body(self, acts: bool, live: bool) -> str:
        now = self.context.now_ms
        rows = []
        for entry in self._entries:
            next_ms = to_ms(entry.next_at) if entry.next_at is not None else None
            last_ms = to_ms(entry.previous_at) if entry.previous_at is not None else None
            rows.append(
                [
                    h.strong(entry.id),
                    h.code(entry.spec),
                    escape(words.shortened(entry.type, 40)),
                    words.time_html(next_ms, now),
                    words.time_html(last_ms, now),
                ]
            )
        heads = ["schedule", "when", "type", "next", "last"]
        return h.table(heads, rows, caption=f"{len(rows)} schedules")

    def act(self, action: str, args: dict[str, Any]) -> None:
        """Nothing here acts yet."""
