"""Sizes as people write and read them: bytes, or text such as ``"16MB"`` or ``"2GiB"``."""

from __future__ import annotations

import re
from typing import Final

from nbqueue.errors import UsageError

Size = int | str

_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def parse_size(value: Size, what: str = "size") -> int:
    """Return ``value`` in bytes.

    It is a whole number, or text: ``"512MB"`` (decimal), ``"512MiB"`` (binary), ``"536870912"``.
    ``what`` names the option in the error. Raises `UsageError` for anything else, and for less
    than one byte.
    """
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        if found is None:
            raise UsageError(f"{what}={value!r} is not a size: write one such as 512MB or 2GiB")
        number, unit, binary = found.groups()
        size = int(float(number) * (1024 if binary else 1000) ** _POWERS[unit.lower()])
    elif isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(
            f"{what}={value!r} is not a size: pass a number of bytes, or text such as '512MB'"
        )
    else:
        size = value
    if size < 1:
        raise UsageError(f"{what}={value!r} is less than one byte")
    return size


def format_size(value: float) -> str:
    """Return bytes as people say them: ``"812 B"``, ``"3.4 MB"``."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
