"""The line of a view in a terminal, redrawn in place while a program waits."""

from __future__ import annotations

import threading
from typing import Any

from nbqueue.notebook.live.flusher import DRAWS_A_SECOND
from nbqueue.notebook.view import View


class TerminalLine:
    """A view's text on the last line of the terminal, until `settle`.

    It is written to standard error.
    """

    def __init__(self, view: View) -> None:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.text import Text

        self.view = view
        self._text, self._group = Text, Group
        self._live: Any = Live(
            self._drawn(),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._stop = threading.Event()
        self._dirty = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nbqueue-line", daemon=True)

    def first(self) -> None:
        """Start to show it."""
        self.view.began(self)  # type: ignore[arg-type]
        self._live.start()
        self._thread.start()

    def changed(self) -> None:
        """Have the line drawn again, at the usual rate."""
        self._dirty.set()

    def settle(self) -> None:
        """Remove the line."""
        self._stop.set()
        self._thread.join()
        self.view.ended(self)  # type: ignore[arg-type]
        self._live.stop()

    def _run(self) -> None:
        while not self._stop.wait(1 / DRAWS_A_SECOND):
            if self._dirty.is_set() or self.view.ticks:
                self._dirty.clear()
                self._live.update(self._drawn(), refresh=True)

    def _drawn(self) -> Any:
        """Return the text: its first line cut to the width, the notices below it in full."""
        first, *more = self.view.text().split("\n")
        line = self._text(first, overflow="ellipsis", no_wrap=True)
        return self._group(line, *map(self._text, more))
