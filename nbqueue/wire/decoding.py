"""Decoders for values that were read from the store.

Any program may have written such a value. Each decoder returns a value that is in range, or None,
or raises `ValueError` where the reason is worth showing. None of them raises anything else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from nbqueue.clock import from_ms

LARGEST: Final = 2**53 - 1
"""The largest whole number that scores and the numbers of scripts hold exactly.

Scores are those of sorted sets.
"""

LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999 in Unix milliseconds.

It is the last time that a datetime can hold.
"""

MOST_ATTEMPTS: Final = 2**31 - 1
"""The largest number of attempts or retries that Asynq's messages can hold."""

_FIRST_MS: Final = -62_135_596_800_000
_LARGEST_NUMBER: Final = 2**62 - 1
_LONGEST_NUMBER: Final = 20
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def whole_number(
    value: bytes | str | int | None,
    least: int = -_LARGEST_NUMBER,
    most: int = _LARGEST_NUMBER,
) -> int | None:
    """Decode a whole number; None if ``value`` holds none in range."""
    if type(value) is not int:
        if value is None or len(value) > _LONGEST_NUMBER:  # type: ignore[arg-type]
            return None
        try:
            value = int(value)
        except ValueError:
            return None
    return value if least <= value <= most else None


def score(value: bytes | str | None) -> float | None:
    """Decode the score of a member of a sorted set.

    None if it is infinite, or too large to be exact.
    """
    if not value:
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if -LARGEST <= found <= LARGEST else None


def time_ms(value: bytes | str | None, unit: int = 1) -> int | None:
    """Decode a score as a time in Unix ms.

    None if it is not between 1970 and the year 9999. ``unit`` is how many milliseconds a score of 1
    stands for: 1000 where scores are seconds.
    """
    found = score(value)
    return None if found is None else whole_number(int(found * unit), 0, LAST_MS)


def moment(ms: float | None) -> datetime | None:
    """Convert Unix milliseconds to a datetime in UTC; None if out of range."""
    return from_ms(round(ms)) if ms is not None and _FIRST_MS <= ms <= LAST_MS else None


def text(value: bytes) -> str:
    """Decode text, with a replacement character for bytes that are no UTF-8."""
    return value.decode("utf-8", "replace")


def pairs(flat: object) -> list[tuple[bytes, bytes]]:
    """Decode a reply of alternating names and values as pairs.

    Anything else in the reply is left out.
    """
    if not isinstance(flat, list):
        return []
    return [
        (name, value)
        for name, value in zip(flat[::2], flat[1::2], strict=False)
        if isinstance(name, bytes) and isinstance(value, bytes)
    ]


def json_value(raw: bytes | str) -> Any:
    """Decode JSON. Raises `ValueError`.

    Also raises it for values that cannot be encoded again: NaN, lone surrogates, and values that
    are nested too deeply.
    """
    body = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    try:
        value = json.loads(body, parse_constant=_refuse)
        if _SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def json_object(raw: bytes | str) -> dict[str, Any]:
    """Decode a JSON object. Raises `ValueError`."""
    value = json_value(raw)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def stream_entry(pairs: Sequence[bytes]) -> dict[str, str]:
    """The fields of a stream entry as text."""
    words = [text(word) for word in pairs]
    return dict(zip(words[::2], words[1::2], strict=False))


def shortened(value: object, most: int = 80) -> str:
    """Return the ``repr`` of a value for an error message, cut to ``most`` characters."""
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # such as whole numbers of thousands of digits
        shown = f"a {type(value).__name__}"
    return shown if len(shown) <= most else shown[: most - 1] + "…"
