"""Validation of names and ids, names that were meant, and matching of type patterns."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from nbqueue.errors import UsageError
from nbqueue.printable import restored, shown

_MOST_COMPARED: Final = 10_000
_LONGEST_COMPARED: Final = 200
_SHORTEST_BEGINNING: Final = 3


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


def near_names(
    word: object, known: Iterable[str], most: int = 1, likeness: float = 0.66
) -> list[str]:
    """Return the known names that are most like ``word``, whatever their case, best first.

    If there are none, those that begin with it. ``most``: how many at most. ``likeness``: from 0 to
    1, how like they must be.
    """
    if not isinstance(word, str) or len(word) > _LONGEST_COMPARED:
        return []
    form = word.casefold()
    by_form = {name.casefold(): name for name in islice(known, _MOST_COMPARED)}
    found = difflib.get_close_matches(form, by_form, most, likeness)
    if not found and len(form) >= _SHORTEST_BEGINNING:
        found = [each for each in by_form if each.startswith(form)][:most]
    return [by_form[each] for each in found]


def did_you_mean(word: object, known: Iterable[str], most: int = 1) -> str:
    """Return a question for the known names that are most like ``word``, or "".

    >>> did_you_mean("retires", ["queue", "retry"])
    "did you mean 'retry'?"
    """
    near = near_names(word, known, most)
    return f"did you mean {' or '.join(map(shown, near))}?" if near else ""


def known_names(word: object, known: Iterable[str]) -> str:
    """Return the rest of a sentence that says ``word`` is none of the known names.

    >>> "'pen' is no state" + known_names("pen", ["pending", "active"])
    "'pen' is no state: did you mean 'pending'? There are pending, active"
    """
    known = list(known)
    question = did_you_mean(word, known)
    return f"{f': {question} There are' if question else '; there are'} {', '.join(known)}"


def not_among(name: str, value: object, choices: Sequence[str]) -> UsageError:
    """Return the error for the value of an argument that is none of its few choices.

    >>> str(not_among("codec", "jsn", ["pickle", "json"]))
    "codec='jsn' must be 'pickle' or 'json': did you mean 'json'?"
    """
    *others, last = map(repr, choices)
    question = did_you_mean(value, choices)
    end = f": {question}" if question else ""
    return UsageError(f"{name}={shown(value)} must be {', '.join(others)} or {last}{end}")


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
