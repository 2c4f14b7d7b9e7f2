"""Sizes in bytes, or as text such as ``"16MB"`` or ``"2GiB"``."""

from __future__ import annotations

import re
from typing import Final

from nbqueue.errors import UsageError
from nbqueue.printable import shown

Size = int | str

_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_LARGEST: Final = 2**63
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def parse_size(value: Size, what: str = "size") -> int:
    """Return ``value`` in bytes.

    It is a whole number or text: ``"512MB"`` (decimal), ``"512MiB"`` (binary), ``"536870912"``.
    ``what`` names the option in the error. Raises `UsageError` for anything else, and for less than
    one byte.
    """
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        if found is None:
            raise UsageError(
                f"{what}={shown(value)} is not a size: write one such as 512MB or 2GiB"
            )
        number, unit, binary = found.groups()
        bytes_ = float(number) * (1024 if binary else 1000) ** _POWERS[unit.lower()]
        size = int(min(bytes_, _LARGEST + 1.0))
    elif isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(
            f"{what}={shown(value)} is not a size: pass a number of bytes, or text such as '512MB'"
        )
    else:
        size = value
    if size < 1:
        raise UsageError(f"{what}={shown(value)} is less than one byte")
    if size >= _LARGEST:
        raise UsageError(f"{what}={shown(value)} is more than any computer has")
    return size


def format_size(value: float) -> str:
    """Format a number of bytes for people: ``"812 B"``, ``"3.4 MB"``."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
