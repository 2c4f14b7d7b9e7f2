"""Cards that stand still, and what is shown until there is one."""

from __future__ import annotations

import time

from nbqueue.notebook.live_views import View
from nbqueue.views import format as words
from nbqueue.views import html as h


class Card:
    """Something still to look at, as text and as HTML."""

    def __init__(self, text: str, html: str) -> None:
        self.text = text
        self.html = html

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


class Starting(View):
    """A worker that is being started: for how long; and at the end the card of what came of it.

    It does not live on with its worker: that outlives the kernel, and a live view cannot.
    """

    ticks = True

    def __init__(self, queues: str) -> None:
        self.card: Card | None = None
        self._queues = queues
        self._began = time.monotonic()

    @property
    def is_final(self) -> bool:
        return self.card is not None

    def text(self) -> str:
        if self.card is not None:
            return self.card.text
        return f"{words.badge_text('pending')} a worker for {self._queues} starts"

    def html(self, live: bool) -> str:
        if self.card is not None:
            return self.card.html
        spent = words.span(time.monotonic() - self._began)
        return h.card(
            h.row(
                words.badge_html("pending"),
                h.strong("a worker starts"),
                h.fact("queues", h.code(self._queues)),
                h.fact("for", spent),
            ),
            label="workers",
        )

    def failed(self) -> None:
        """It did not start; why is told elsewhere."""
        said = "the worker did not start"
        self.card = Card(
            f"{words.badge_text('failed')} {said}",
            h.card(h.row(words.badge_html("failed"), h.strong(said)), label="workers"),
        )
