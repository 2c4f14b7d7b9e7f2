"""The tab of the timeline: a picture of what ran where and when."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from markupsafe import Markup

from nbqueue.dashboard.attempt_timeline import MOST_ATTEMPTS, SPANS
from nbqueue.errors import NbqueueError
from nbqueue.notebook.panel.tab import Context, Tab
from nbqueue.views import controls
from nbqueue.views import html as h

log = logging.getLogger("nbqueue.notebook")

_FRESH_SECONDS = 10.0


class TimelineTab(Tab):
    """A picture of recent attempts. A thread draws it, as that may take seconds."""

    name = "Timeline"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._since = "1h"
        self._picture = h.row(h.pale("the picture is being drawn …"))
        self._drawn: tuple[str, float] = ("", 0.0)
        self._thread: threading.Thread | None = None

    def read(self) -> None:
        since, at = self._drawn
        is_fresh = since == self._since and time.monotonic() - at < _FRESH_SECONDS
        if not is_fresh and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._draw, daemon=True)
            self._thread.start()

    def _draw(self) -> None:
        since = self._since
        try:
            picture = self._made(since)
        except NbqueueError as error:
            picture = h.problem(str(error))
        except Exception as error:
            # Another moment may work, and a thread that dies would leave the tab empty.
            log.exception("a timeline could not be drawn")
            picture = h.problem(f"{type(error).__name__}: {error}")
        self._picture, self._drawn = picture, (since, time.monotonic())
        self.context.redraw()

    def _made(self, since: str) -> Markup:
        # Loaded late: matplotlib is heavy.
        from nbqueue.views.plots.timeline import timeline

        frame = self.context.client.attempts(since=since, limit=MOST_ATTEMPTS)
        if self.context.queues is not None:
            frame = frame[frame["queue"].isin(self.context.queues)]
        if not len(frame):
            return h.row(h.pale(f"nothing ran in the last {since}"))
        bundle, _ = timeline(frame)._repr_mimebundle_()  # type: ignore[attr-defined]
        return Markup(bundle["text/html"])  # noqa: S704 (our own figure, which escapes its texts)

    def body(self, acts: bool, live: bool) -> Markup:
        chooser = h.NOTHING
        if live:
            options = [(span, f"the last {span}") for span in SPANS]
            chooser = h.row(controls.choice(self._since, options, "since", label="How far back"))
        return chooser + self._picture

    def act(self, action: str, args: dict[str, Any]) -> None:
        if action == "since" and args.get("value") in SPANS:
            self._since = str(args["value"])
