"""Cards that do not change, and the view of a worker that starts."""

from __future__ import annotations

import time
from collections.abc import Sequence

from markupsafe import Markup

from nbqueue.notebook.view import View
from nbqueue.printable import printable
from nbqueue.views import format as fmt
from nbqueue.views import html as h


class StaticCard:
    """A card that does not change, as text and as HTML."""

    def __init__(self, lines: Sequence[str], html: Markup) -> None:
        self.lines = list(lines)
        self.html = html

    def __repr__(self) -> str:
        return "\n".join(map(printable, self.lines))

    def _repr_html_(self) -> str:
        return str(self.html)


class StartingWorker(View):
    """A worker that is being started, and then the card of the result.

    It is final then: the worker outlives the kernel, and a live view cannot.
    """

    ticks = True

    def __init__(self, queues: str) -> None:
        self.card: StaticCard | None = None
        self._queues = queues
        self._began = time.monotonic()

    @property
    def is_final(self) -> bool:
        return self.card is not None

    def lines(self) -> list[str]:
        if self.card is not None:
            return self.card.lines
        return [f"{fmt.badge_text('pending')} a worker for {self._queues} starts"]

    def html(self, live: bool) -> Markup:
        if self.card is not None:
            return self.card.html
        spent = fmt.span(time.monotonic() - self._began)
        return h.card(
            h.row(
                h.badge("pending"),
                h.strong("a worker starts"),
                h.fact("queues", h.code(self._queues)),
                h.fact("for", spent),
            ),
            label="workers",
        )

    def failed(self) -> None:
        """Show that the worker did not start. The error is raised to the caller."""
        words = "the worker did not start"
        self.card = StaticCard(
            [f"{fmt.badge_text('failed')} {words}"],
            h.card(h.row(h.badge("failed"), h.strong(words)), label="workers"),
        )
