"""Make text from a store safe to show, with escapes for control characters.

Any program that can write to Redis controls the type of a task, its error, the id of a schedule
and the name of a worker. Such text must not move the cursor, set the title of a terminal, write to
the clipboard or reorder the text next to it. All code that shows text from a store passes it
through `printable`: HTML in `nbqueue.views.html.text`, plain text of views in `View.text`, the
command line in `nbqueue.cli.text_output`, logs and error messages. Output of tasks may have
colours: see `nbqueue.views.ansi`.
"""

from __future__ import annotations

import logging
import re
import traceback

_UNSEEN = (
    "\x7f-\x9f\xad"  # DEL, the C1 controls and the soft hyphen
    "\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"  # zero-width characters
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero width, separators, bidirectional controls
    "\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff"  # lone surrogates, which neither a terminal nor a page can take
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # format controls and tags
)
_IN_A_LINE = re.compile(f"[\x00-\x1f{_UNSEEN}]")
_IN_LINES = re.compile(f"[\x00-\x08\x0b-\x1f{_UNSEEN}]")
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_ESCAPES = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4}))")
_LONGEST_REPR = 400
_SHORT_ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return ``text`` with escapes for control characters and invisible characters.

    These are the C0 and C1 controls, bidirectional and zero-width characters, line separators and
    lone surrogates. With ``lines`` newlines and tabs stay, for text of several lines.

    >>> printable("fit\x1b[2J")
    'fit\\x1b[2J'
    """
    if text.isprintable() and text.isascii():
        return text
    return (_IN_LINES if lines else _IN_A_LINE).sub(_escape_of, text)


def without_controls(text: str) -> str:
    """Return ``text`` with escapes for characters that control a terminal, and no others.

    Newlines, tabs and carriage returns stay, and so do the joiners of scripts and emoji: for the
    output of tasks, and for data that is shown later.
    """
    if text.isprintable() and text.isascii():
        return text
    return _CONTROLS.sub(_escape_of, text)


def restored(text: str) -> str:
    """Return the text of which `without_controls` made ``text``.

    Text that has had such an escape from the start, letter by letter, cannot be told apart.
    """
    return _ESCAPES.sub(_character_of, text) if "\\" in text else text


def shown(value: object) -> str:
    """Return a short ``repr`` of an argument for an error message; never fails.

    Python refuses to convert whole numbers of more than 4,300 digits to text.
    """
    try:
        text = repr(value)
    except Exception:
        if isinstance(value, int):
            return f"a number of {value.bit_length():,} bits"
        return f"a value of type {type(value).__name__}"
    if len(text) > _LONGEST_REPR:
        text = f"{text[: _LONGEST_REPR // 2]}… ({len(text):,} characters)"
    return printable(text)


def _escape_of(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    short = _SHORT_ESCAPES.get(character)
    return short or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _character_of(match: re.Match[str]) -> str:
    character = chr(int(match[1] or match[2], 16))
    return character if _CONTROLS.match(character) else match[0]


class _PrintableRecords(logging.Filter):
    """Escapes the text of log records; drops none."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:
            return True  # the handler reports the error
        text = printable(message)
        if text != message:
            record.msg, record.args = text, ()
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            lines = traceback.format_exception(*record.exc_info)
            record.exc_text = printable("".join(lines).rstrip("\n"), lines=True)
        return True


for _name in ("nbqueue.client", "nbqueue.notebook", "nbqueue.worker"):
    # A logger's filter sees each record before any handler does.
    logging.getLogger(_name).addFilter(_PrintableRecords())
