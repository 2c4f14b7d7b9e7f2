"""Durations in seconds, as ``timedelta``, or as text such as ``"1h30m"``."""

from __future__ import annotations

import math
import numbers
import re
from datetime import timedelta
from typing import Any

from nbqueue.errors import InvalidDuration
from nbqueue.printable import shown

Duration = float | int | timedelta | str

LONGEST = 100 * 365 * 86_400.0
"""The longest accepted duration, in seconds. Longer ones overflow Go's durations and timers."""

_UNITS = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])\s*")
_FORMS = 'a number of seconds, a timedelta, or text such as "90s", "10m", "1h30m" or "7d"'


def parse_duration(value: Duration, what: str = "duration") -> float:
    """Return ``value`` in seconds.

    ``what`` names the option in the error. Text is one or more numbers with a unit of ``ms``,
    ``s``, ``m``, ``h``, ``d`` or ``w``; a bare number is in seconds. Raises `InvalidDuration` for
    anything else, and for values that are negative, not finite or longer than a hundred years.
    """
    if isinstance(value, bool):
        raise InvalidDuration(f"{what}={shown(value)} is not a duration: pass {_FORMS}")
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float | numbers.Real):  # those of NumPy, too
        seconds = _as_float(value)
    elif isinstance(value, str):
        seconds = _parse_text(value, what)
    else:
        raise InvalidDuration(f"{what}={shown(value)} is not a duration: pass {_FORMS}")
    if not math.isfinite(seconds) or seconds < 0:
        raise InvalidDuration(f"{what}={shown(value)} must be finite and not negative")
    if seconds > LONGEST:
        raise InvalidDuration(f"{what}={shown(value)} is longer than a hundred years")
    return seconds


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _parse_text(text: str, what: str) -> float:
    stripped = text.strip().lower()
    try:
        return float(stripped)
    except ValueError:
        pass
    position, seconds = 0, 0.0
    while position < len(stripped):
        part = _PART.match(stripped, position)
        if part is None:
            raise InvalidDuration(f"{what}={shown(text)} is not a duration: pass {_FORMS}")
        seconds += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    if not stripped:
        raise InvalidDuration(f"{what}={shown(text)} is empty: pass {_FORMS}")
    return seconds


def format_duration(seconds: float) -> str:
    """Format ``seconds`` for people: ``"0.42s"``, ``"12s"``, ``"1m 03s"``."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}µs"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 59.5:
        return f"{seconds:.0f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600:02d}h"
