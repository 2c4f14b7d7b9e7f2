"""The last lines of a task's output, and the box that shows them."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from nbqueue.views import html as h
from nbqueue.views.ansi import ansi_html, collapse

MOST_LINES = 400
_LONGEST_LINE = 2000
_LINES_TOGETHER = 20
"""The number of lines of output that come and go together."""


class OutputLines:
    """The last lines of what a task wrote to its streams, in the order in which they began.

    A line that one stream has begun, such as a progress bar, stays one line and in its place while
    another stream writes.
    """

    def __init__(self) -> None:
        self.first = 0
        """The number of lines that were dropped before ``lines``."""
        self._lines: list[str] = []
        self._begun: dict[str, int] = {}
        """The number of the line that each stream has begun and not ended."""

    @property
    def lines(self) -> list[str]:
        """The last lines, at most `MOST_LINES`."""
        return [line.rstrip("\r") for line in self._lines]

    def add(self, stream: str, text: str) -> None:
        """Add text that ``stream`` wrote."""
        *whole, rest = text.split("\n")
        for piece in whole:
            self._continue(stream, piece)
            self._begun.pop(stream, None)
        if rest:
            self._continue(stream, rest)
        dropped = len(self._lines) - MOST_LINES
        if dropped > 0:
            del self._lines[:dropped]
            self.first += dropped

    def _continue(self, stream: str, piece: str) -> None:
        at = self._begun.get(stream, -1) - self.first
        if at < 0:
            at = len(self._lines)
            self._lines.append("")
            self._begun[stream] = self.first + at
        text = self._lines[at] + piece
        # What comes next is written over a line that ends with a carriage return.
        returns = "\r" if text.endswith("\r") else ""
        self._lines[at] = collapse(text)[-_LONGEST_LINE:] + returns


def output_box(first: int, lines: Sequence[str]) -> Markup:
    """Return the end of an output in a box that follows it; ``first`` lines are not shown.

    Lines are in blocks with a name each, so that the box can keep its place when the first lines
    leave it.
    """
    blocks: list[Markup] = []
    if first:
        blocks.append(h.keyed("cut", h.pale(f"… {first:,} lines before")))
    at = 0
    while at < len(lines):
        number = (first + at) // _LINES_TOGETHER
        ends = (number + 1) * _LINES_TOGETHER - first
        blocks.append(h.keyed(f"lines {number}", ansi_html("\n".join(lines[at:ends]))))
        at = ends
    return h.pre(h.join(blocks), follows=True)
