"""Output of tasks for terminals and as HTML: keeps colours, drops other control sequences.

A task may print anything, and anyone who can write to Redis can add to its output. Only colours
reach a terminal: no titles, links, writes to the clipboard, cursor movements, modes, or queries
that the terminal would answer on its input. Why no library does this: decision NNNN.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from markupsafe import Markup, escape

from nbqueue.printable import without_controls
from nbqueue.views.format import INK
from nbqueue.views.html import NOTHING, element

# A control sequence (its parameters and its last character), a string such as a title, or another
# escape. Each also in the form whose first character is a C1 control.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)([0-?]*)[ -/]*([@-~])"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
_UNFINISHED = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*\Z"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x80-\x9f]*\x1b?\Z"
    r"|\x1b[ -/]*\Z"
)
_LONGEST_UNFINISHED: Final = 4096
_COLOUR = re.compile(r"[0-9;:]{0,64}")
_SILENT: Final = str.maketrans("", "", "\a\b\v\f\x0e\x0f")
_RESET: Final = "\x1b[0m"
_COLOURS: Final = (
    "#3b4048", "#c62828", "#2e7d32", "#9a6700", "#1565c0", "#8e24aa", "#00838f", "#8a8f98",
    "#6b7280", "#e53935", "#43a047", "#c98a00", "#1e88e5", "#ab47bc", "#00acc1", "#c9ced6",
)  # fmt: skip
_LEVELS: Final = (0, 95, 135, 175, 215, 255)


def collapse(text: str) -> str:
    """Apply the carriage returns and backspaces of ``text``: drop what was written over.

    >>> collapse("10%\\r20%\\nend")
    '20%\\nend'
    """
    if "\r" not in text and "\b" not in text:
        return text
    return "\n".join(_collapsed(line) for line in text.split("\n"))


def _collapsed(line: str) -> str:
    if "\b" in line:
        kept: list[str] = []
        for character in line:
            if character != "\b":
                kept.append(character)
            elif kept and kept[-1] != "\r":
                kept.pop()
        line = "".join(kept)
    if "\r" not in line:
        return line
    shown = ""
    for part in line.split("\r"):
        if "\x1b" in part or "\x1b" in shown:
            shown = part or shown  # codes have a length, and no width
        elif part:
            shown = part + shown[len(part) :]
    return shown


def for_terminal(text: str) -> str:
    """Make the output of a task safe for a terminal.

    Colours, carriage returns, tabs and newlines stay. Other control sequences are dropped, and
    single control characters, bidirectional controls and lone surrogates become visible escapes.
    """
    if _is_plain(text):
        return text
    shown, colour = _filtered(text)
    return shown + _RESET if colour else shown


class TerminalStream:
    """Makes a stream of output safe for a terminal. Pieces of it may end anywhere."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._is_coloured = False

    def feed(self, data: bytes) -> str:
        """Return the text to write now. An unfinished sequence waits for its end."""
        text = self._rest + self._decoder.decode(data)
        found = _UNFINISHED.search(text, max(0, len(text) - _LONGEST_UNFINISHED))
        end = found.start() if found is not None else len(text)
        self._rest = text[end:]
        shown, colour = _filtered(text[:end])
        if colour is not None:
            self._is_coloured = colour
        return shown

    def end(self) -> str:
        """Return the rest of the text, and switch off colours."""
        shown, colour = _filtered(self._rest + self._decoder.decode(b"", final=True))
        self._rest = ""
        return shown + _RESET if self._is_coloured or colour else shown


def _is_plain(text: str) -> bool:
    return text.isascii() and text.replace("\n", "").isprintable()


def _filtered(text: str) -> tuple[str, bool | None]:
    """Return ``text`` as safe for a terminal, and whether colours are on at its end.

    The second is None if the text changes no colours.
    """
    colour: bool | None = None
    parts: list[str] = []
    at = 0
    for match in _ESCAPE.finditer(text):
        parts.append(_plain_output(text[at : match.start()]))
        at = match.end()
        if match[2] == "m" and _COLOUR.fullmatch(match[1]):
            parts.append(f"\x1b[{match[1]}m")
            colour = match[1].strip("0;:") != ""
    parts.append(_plain_output(text[at:]))
    return "".join(parts), colour


def _plain_output(text: str) -> str:
    """Return text between control sequences, without bells and the like."""
    return text if _is_plain(text) else without_controls(text.translate(_SILENT))


def without_colours(text: str) -> str:
    """Return ``text`` without control sequences, colours included."""
    return _plain_output(_ESCAPE.sub("", text))


def ansi_html(text: str) -> Markup:
    """Return ``text`` as HTML: escaped, with colours as spans with inline styles.

    Colours are mixed with the font's own, so that they are readable in light and dark themes.
    """
    parts: list[Markup] = []
    style = _Style()
    at = 0
    for match in _ESCAPE.finditer(text):
        parts.append(style.around(text[at : match.start()]))
        at = match.end()
        if match[2] == "m" and _COLOUR.fullmatch(match[1]):
            style.change(match[1] or "")
    parts.append(style.around(text[at:]))
    return NOTHING.join(parts)


class _Style:
    """The look of the next characters, by the codes so far."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._ink = self._ground = ""
        self._marks: dict[str, str] = {}

    def around(self, text: str) -> Markup:
        """Return ``text`` as HTML that looks so."""
        if not text:
            return NOTHING
        styles = list(self._marks.values())
        if self._ink:
            styles.append(f"color:color-mix(in srgb, {self._ink} 60%, {INK})")
        if self._ground:
            styles.append(f"background:color-mix(in srgb, {self._ground} 30%, transparent)")
        body = escape(_plain_output(text))
        return element("span", body, style=";".join(styles)) if styles else body

    def change(self, codes: str) -> None:
        """Apply the codes of one sequence, such as ``"1;31"``."""
        numbers = [
            int(code) if code.isdigit() and len(code) < 6 else 0 for code in re.split("[;:]", codes)
        ]
        while numbers:
            code = numbers.pop(0)
            if code == 0:
                self._reset()
            elif code in _MARKS:
                name, style = _MARKS[code]
                self._marks.pop(name, None)
                if style:
                    self._marks[name] = style
            elif code in (38, 48):
                colour = _long_colour(numbers)
                if code == 38:
                    self._ink = colour
                else:
                    self._ground = colour
            elif 30 <= code <= 37 or 90 <= code <= 97:
                self._ink = _COLOURS[code - 30 if code < 90 else code - 82]
            elif 40 <= code <= 47 or 100 <= code <= 107:
                self._ground = _COLOURS[code - 40 if code < 100 else code - 92]
            elif code == 39:
                self._ink = ""
            elif code == 49:
                self._ground = ""


_MARKS: Final = {
    1: ("weight", "font-weight:600"),
    2: ("weight", "opacity:.75"),
    22: ("weight", ""),
    3: ("slant", "font-style:italic"),
    23: ("slant", ""),
    4: ("line", "text-decoration:underline"),
    9: ("line", "text-decoration:line-through"),
    24: ("line", ""),
    29: ("line", ""),
}


def _long_colour(numbers: list[int]) -> str:
    """Take the colour that follows a code 38 or 48 from the front of ``numbers``."""
    kind = numbers.pop(0) if numbers else 0
    if kind == 5 and numbers:
        return _of_256(numbers.pop(0))
    if kind == 2 and len(numbers) >= 3:
        red, green, blue = (min(numbers.pop(0), 255) for _ in range(3))
        return f"#{red:02x}{green:02x}{blue:02x}"
    return ""


def _of_256(number: int) -> str:
    if number < 16:
        return _COLOURS[number]
    if number < 232:
        rest = number - 16
        red, green, blue = rest // 36, rest // 6 % 6, rest % 6
        return f"#{_LEVELS[red]:02x}{_LEVELS[green]:02x}{_LEVELS[blue]:02x}"
    grey = min(8 + 10 * (number - 232), 255)
    return f"#{grey:02x}{grey:02x}{grey:02x}"
