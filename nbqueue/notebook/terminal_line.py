"""What is shown while a program in a terminal waits: one line, drawn over itself."""

from __future__ import annotations

import sys
import threading
from typing import Any

from nbqueue.notebook.live_views import DRAWS_A_SECOND, View


class TerminalLine:
    """A view's text on the last line of the terminal, until `settle`. On standard error."""

    def __init__(self, view: View) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self.view = view
        self._text = Text
        self._live: Any = Live(
            Text(view.text(), overflow="ellipsis", no_wrap=True),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._stop = threading.Event()
        self._dirty = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nbqueue-line", daemon=True)

    def first(self) -> None:
        """Begin to show it."""
        self.view.began(self)  # type: ignore[arg-type]
        self._live.start()
        self._thread.start()

    def changed(self) -> None:
        """There is something new; it is drawn in its time."""
        self._dirty.set()

    def settle(self) -> None:
        """Take the line away."""
        self._stop.set()
        self._thread.join()
        self.view.ended(self)  # type: ignore[arg-type]
        self._live.stop()

    def _run(self) -> None:
        while not self._stop.wait(1 / DRAWS_A_SECOND):
            if self._dirty.is_set() or self.view.ticks:
                self._dirty.clear()
                self._live.update(
                    self._text(self.view.text(), overflow="ellipsis", no_wrap=True), refresh=True
                )


def is_terminal() -> bool:
    """Whether somebody may look at standard error."""
    return sys.stderr is not None and sys.stderr.isatty()
