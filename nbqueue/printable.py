"""Text from a store, made safe to show: control characters become visible escapes.

Anybody who can write to Redis chooses the type of a task, its error, the id of a schedule and the
name of a worker. Such text must not move the cursor, set the title of a terminal, write to a
clipboard or reorder what stands beside it. Everything that shows text from a store passes it
through `visible` (terminals, logs, messages of errors) or `escape` (HTML). What a task *printed*
may have colours: see `nbqueue.views.ansi`.
"""

from __future__ import annotations

import html
import logging
import re
import traceback

_UNSEEN = (
    "\x7f-\x9f\xad"  # DEL, the C1 controls and the soft hyphen
    "\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"  # characters without a width
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
    r"""Return ``text`` with escapes for characters that control a display or cannot be seen.

    These are the C0 and C1 controls, bidirectional and zero-width characters, line separators and
    lone surrogates. With ``lines`` newlines and tabs stay, for text of several lines.

    >>> visible("fit\x1b[2J")
    'fit\\x1b[2J'
    """
    if text.isprintable() and text.isascii():
        return text
    return (_IN_LINES if lines else _IN_A_LINE).sub(_escaped, text)


def escape(text: str, quote: bool = True) -> str:
    """Return ``text`` as HTML, with visible escapes as in `visible`. Newlines and tabs stay."""
    return html.escape(visible(text, lines=True), quote)


def shown(value: object) -> str:
    """Return the ``repr`` of an argument for an error: never too long, and never failing.

    Python refuses to write whole numbers of more than 4,300 digits.
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
    """Makes the text of log records visible; drops none."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:
            return True  # the handler reports it
        shown = visible(message)
        if shown != message:
            record.msg, record.args = shown, ()
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            lines = traceback.format_exception(*record.exc_info)
            record.exc_text = visible("".join(lines).rstrip("\n"), lines=True)
        return True


for _name in ("nbqueue.client", "nbqueue.notebook", "nbqueue.worker"):
    # A logger's filter sees each record before any handler, of whatever program.
    logging.getLogger(_name).addFilter(_VisibleRecords())
