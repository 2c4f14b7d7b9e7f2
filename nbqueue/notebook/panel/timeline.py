"""The tab of the timeline: what ran where and when, as a picture."""

from __future__ import annotations

from typing import Any

from nbqueue.notebook.panel.tab import Context, Tab
from nbqueue.views import html as h

_SPANS = ("5m", "1h", "6h", "1d", "7d")
_MOST = 20_000


class TimelineTab(Tab):
    """A picture of the attempts of the last while."""

    name = "Timeline"
    rest = 5.0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._since = "1h"
        self._picture = ""

    def read(self) -> None:
        client = self.context.client
        frame = client.attempts(since=self._since, limit=_MOST)
        if self.context.queues is not None:
            frame = frame[frame["queue"].isin(self.context.queues)]
        if not len(frame):
            self._picture = h.row(h.pale(f"nothing ran in the last {self._since}"))
            return
        from nbqueue.views.timeline import timeline

        self._picture = timeline(frame)._repr_html_() or ""

    def body(self, acts: bool, live: bool) -> str:
        chooser = ""
        if live:
            options = [(span, f"the last {span}") for span in _SPANS]
            chooser = h.row(h.choice(self._since, options, "since", label="How far back"))
        return chooser + self._picture

    def act(self, action: str, args: dict[str, Any]) -> None:
        if action == "since" and args.get("value") in _SPANS:
            self._since = str(args["value"])
