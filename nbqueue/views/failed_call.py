"""`FailedCall`: what failed, where, and with which arguments, as text and as HTML."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from nbqueue.views import html as h
from nbqueue.views.format import shortened

_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+)(?:, in (?P<function>.*))?$')
_INSTALLED = re.compile(
    r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib[/\\]python3\.\d+[/\\]|^<frozen "
)
_SEPARATOR = re.compile(r"[/\\]")
_CELL = re.compile(r"[/\\]ipykernel_\d+[/\\]\d+\.py$|^<ipython-input-")
_BEGIN = "Traceback (most recent call last):"
_CHAINED = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_LAST_FRAMES = 3
_MOST_DIGITS = 9
_MOST_SOURCE = 100


class Frame(NamedTuple):
    """A frame of a traceback; ``source`` is "" if it is not known."""

    file: str
    line: int
    function: str
    source: str

    @property
    def text(self) -> str:
        """The place and the source, such as ``load.py:12 in load: data["price"]``."""
        if _CELL.search(self.file):
            place = f"line {self.line} of a cell"
        else:
            place = f"{_SEPARATOR.split(self.file)[-1]}:{self.line}"
        if self.function and self.function != "<module>":
            place += f" in {self.function}"
        return f"{place}: {self.source}" if self.source else place


class FailedCall(NamedTuple):
    """The last error of a task. The texts are printable."""

    error: str
    """Type and message, on one line."""
    call: str = ""
    """The call as Python would write it; "" if it cannot be read."""
    traceback: str = ""
    """The traceback on the worker, from the user's first frame on; "" if there is none."""


class ErrorKind(NamedTuple):
    """Equal errors of several tasks."""

    first: FailedCall
    """The first of them, without its call."""
    total: int
    calls: Sequence[tuple[str, str]]
    """Label and call of the first tasks; the call is "" if it cannot be read."""


def frames_of(traceback: str) -> list[Frame]:
    """Read the frames of the last exception of a traceback's text, outermost first."""
    lines = _last_part(traceback.splitlines())
    found: list[Frame] = []
    for line, after in itertools.zip_longest(lines, lines[1:], fillvalue=""):
        match = _FRAME.match(line)
        if match is not None:
            source = after.strip() if after.startswith("    ") else ""
            number = int(match["line"][:_MOST_DIGITS])
            found.append(Frame(match["file"], number, match["function"] or "", source))
    return found


def _last_part(lines: list[str]) -> list[str]:
    """Return the lines of the frames of the last exception of a chain.

    Those of an exception group lose its margin. A message that contains a traceback is left out.
    """
    starts = [i for i in range(2, len(lines)) if lines[i - 2].strip(" |") in _CHAINED]
    part = lines[starts[-1] :] if starts else lines
    margin = ""
    if part and part[0].strip(" +") == f"Exception Group {_BEGIN}":
        margin = "  | "
    inside = itertools.takewhile(lambda line: line.startswith(f"{margin}  "), part[1:])
    return [line.removeprefix(margin) for line in inside]


def user_frame(frames: Sequence[Frame]) -> Frame | None:
    """Return the innermost frame of the user's own code, outside of installed packages."""
    own = [frame for frame in frames if not _INSTALLED.search(frame.file)]
    return own[-1] if own else None


def failure_parts(failed: FailedCall) -> list[Markup]:
    """Return the call, the error, the user's own line, the last frames and the traceback."""
    call = [h.row(h.code(failed.call))] if failed.call else []
    return [*call, h.problem(failed.error), *_place_parts(failed.traceback)]


def error_kind_parts(kind: ErrorKind) -> list[Markup]:
    """Return an error, how often it occurred, with which arguments, and where."""
    times = f"{kind.total:,} × " if kind.total > 1 else ""
    calls = [
        h.row(h.pale(label), h.code(call) if call else "", gap=6) for label, call in kind.calls
    ]
    if kind.total > len(kind.calls):
        calls.append(h.row(h.pale(f"and {kind.total - len(kind.calls):,} more")))
    return [h.problem(f"{times}{kind.first.error}"), *calls, *_place_parts(kind.first.traceback)]


def failure_text(failed: FailedCall) -> str:
    """Return all that is known as text, to be copied."""
    return "\n".join(filter(None, (failed.call, failed.error, failed.traceback)))


def _place_parts(traceback: str) -> list[Markup]:
    if not traceback:
        return []
    frames = frames_of(traceback)
    own = user_frame(frames)
    shown = [] if own is None else [("at", own)]
    shown += [("in", frame) for frame in frames[-_LAST_FRAMES:] if frame != own]
    parts = [
        h.row(h.pale(word), h.code(shortened(frame.text, _MOST_SOURCE)), gap=4)
        for word, frame in shown[:_LAST_FRAMES]
    ]
    return [*parts, h.folded("Traceback", h.pre(traceback))]
