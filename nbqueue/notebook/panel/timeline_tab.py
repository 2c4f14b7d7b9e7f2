"""The tab of the timeline: a picture of what ran where and when."""

from __future__ import annotations

from collections import Counter
from typing import Any

from markupsafe import Markup

from nbqueue.dashboard.attempt_timeline import SPANS, AttemptTimeline
from nbqueue.notebook.panel.model_table import foot
from nbqueue.notebook.panel.tab import Context, Tab
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h
from nbqueue.views.plots.timeline_svg import timeline_svg


class TimelineTab(Tab):
    """A picture of recent attempts."""

    name = "Timeline"
    rest = AttemptTimeline.rest_seconds

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._timeline = AttemptTimeline(context)
        self.tables = {"": self._timeline}
        self._picture = h.NOTHING

    def read(self) -> None:
        self._timeline.read()
        self._picture = self._drawn()

    def body(self, acts: bool, live: bool) -> Markup:
        chooser = h.NOTHING
        if live:
            options = [(span, f"the last {span}") for span in SPANS]
            since = self._timeline.since
            chooser = h.row(controls.choice(since, options, "since", label="How far back"))
        return chooser + self._picture + foot(self._timeline, live=live)

    def _drawn(self) -> Markup:
        attempts, since = self._timeline.rows, self._timeline.since
        if not attempts:
            return h.row(h.pale(f"nothing ran in the last {since}"))
        outcomes = Counter(each.outcome for each in attempts)
        summary = fmt.count(len(attempts), "attempt")
        summary += f" by {fmt.count(len({each.worker for each in attempts}), 'worker')}"
        counted = [
            h.unbroken(h.badge(outcome), f"{number:,}")
            for outcome, number in outcomes.most_common()
        ]
        words = ", ".join(f"{number:,} {outcome}" for outcome, number in outcomes.most_common())
        picture = timeline_svg(attempts, label=f"Timeline: {summary}; {words}")
        note = h.pale(self._timeline.note) if self._timeline.note else ""
        return h.row(summary, *counted, note) + picture

    def act(self, action: str, args: dict[str, Any]) -> None:
        if action == "since":
            self._timeline.show(str(args.get("value")))
        else:
            super().act(action, args)
