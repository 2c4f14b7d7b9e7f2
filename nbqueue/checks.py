"""Argument checks that several options share."""

from __future__ import annotations

from typing import Final, TypeGuard

INT32: Final = 2**31 - 1
"""The largest number in the 32-bit fields of Asynq's records."""

LARGEST_COUNT: Final = 10**9


def is_whole(value: object, least: int, most: int = LARGEST_COUNT) -> TypeGuard[int]:
    """Return whether ``value`` is an int (not a bool) from ``least`` to ``most``."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
