"""Validation of names and ids, and matching of type patterns."""

from __future__ import annotations

import unicodedata

from nbqueue.errors import UsageError
from nbqueue.printable import restored, shown


def fault_of(
    text: str,
    *,
    forbidden: str = "",
    inner_space: bool = True,
    only_printable: bool = True,
    longest: int | None = None,
) -> str | None:
    """Return why ``text`` is not a valid name, or None if it is.

    ``forbidden``: characters that it must not contain. ``inner_space``: whether it may contain
    spaces between others. ``only_printable``: False allows invisible characters that are neither
    control characters nor lone surrogates. ``longest``: the maximum number of characters.

    >>> fault_of("a\\0b")
    "contains the NUL character '\\\\x00' at position 1"
    """
    for position, char in enumerate(text):
        kind = _kind_of(char, forbidden, only_printable)
        if kind is None and char.isspace() and not inner_space:
            kind = "white space"
        if kind is not None:
            return f"contains {kind} {shown(char)} at position {position}"
    if text != text.strip():
        return "begins or ends with white space"
    if longest is not None and len(text) > longest:
        return f"has {len(text):,} characters, of which {longest:,} are the most"
    return None


def fits_pattern(text: str, pattern: str) -> bool:
    """Return whether ``text`` matches ``pattern``, in which ``*`` matches any characters."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *between, last = rest
    if not (text.startswith(first) and len(text) >= len(first) + len(last) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in between:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def with_restored(pattern: str) -> tuple[str, ...]:
    r"""Return a pattern, and what it stands for if it was copied from a frame.

    Frames show control characters as escapes.

    >>> with_restored("a\\x1b*")
    ('a\\x1b*', 'a\x1b*')
    """
    return tuple(dict.fromkeys((pattern, restored(pattern))))


def _kind_of(char: str, forbidden: str, only_printable: bool) -> str | None:
    if char in forbidden:
        return "the character"
    if char == "\0":
        return "the NUL character"
    category = unicodedata.category(char)
    if category == "Cc":
        return "white space" if char.isspace() else "the control character"
    if category == "Cs":
        return "the lone surrogate, which UTF-8 cannot hold,"
    if not only_printable or char == " " or char.isprintable():
        return None
    if char.isspace():
        return "white space"
    return "the invisible character" if category == "Cf" else "the unprintable character"


def check_encodable(text: str) -> None:
    """Raise `UsageError` for text with lone surrogates that stand for no bytes, as no name has."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{shown(text)} contains the lone surrogate {shown(text[error.start])} at position "
            f"{error.start}: no id and no name does"
        ) from None
