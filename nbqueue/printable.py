"""Make text from a store safe to show, with escapes for control characters.

Any program that can write to Redis controls the type of a task, its error, the id of a schedule
and the name of a worker. Such text must not move the cursor, set the title of a terminal, write to
the clipboard or reorder the text next to it. All code that shows text from a store passes it
through `visible` (terminals, logs, error messages) or `escape` (HTML). What a task *printed* may
have colours: see `nbqueue.views.ansi`.
"""

from __future__ import annotations

import html
import logging
import re
import traceback

_UNSEEN = (
    "\x7f-\x9f\xad"  # DEL, the C1 controls and the soft hyphen
    "\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"  # zero-width characters
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero width, separators, bidirectional controls
    "\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff"  # lone surrogates, which no terminal or page can take
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # format controls and tags
)
_IN_A_LINE = re.compile(f"[\x00-\x1f{_UNSEEN}]")
_IN_LINES = re.compile(f"[\x00-\x08\x0b-\x1f{_UNSEEN}]")
_LONGEST_SHOWN = 400
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def visible(text: str, *, lines: bool = False) -> str:
    r"""Return ``text`` with escapes for control characters and invisible characters.

    These are the C0 and C1 controls, bidirectional and zero-width characters, line separators and
    lone surrogates. With ``lines`` newlines and tabs stay, for text of several lines.

    >>> visible("fit\x1b[2J")
    'fit\\x1b[2J'
    """
    if text.isprintable() and text.isascii():
        return text
    return (_IN_LINES if lines else _IN_A_LINE).sub(_escaped, text)


def escape(text: str, quote: bool = True) -> str:
    """Return ``text`` as HTML with escapes as in `visible`; newlines and tabs stay."""
    return html.escape(visible(text, lines=True), quote)


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
    if len(text) > _LONGEST_SHOWN:
        text = f"{text[: _LONGEST_SHOWN // 2]}… ({len(text):,} characters)"
    return visible(text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


class _VisibleRecords(logging.Filter):
    """Escapes the text of log records; drops none."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:
            return True  # the handler reports the error
        shown = visible(message)
        if shown != message:
            record.msg, record.args = shown, ()
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            lines = traceback.format_exception(*record.exc_info)
            record.exc_text = visible("".join(lines).rstrip("\n"), lines=True)
        return True


for _name in ("nbqueue.client", "nbqueue.notebook", "nbqueue.worker"):
    # A logger's filter sees each record before any handler does.
    logging.getLogger(_name).addFilter(_VisibleRecords())
