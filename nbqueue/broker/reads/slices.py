"""Divide many queues into slices, each for one round trip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

QUEUES_AT_ONCE = 200
"""Maximum number of queues in one round trip.

The server serves other clients between the commands.
"""


def in_slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield ``items`` in order, ``size`` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
