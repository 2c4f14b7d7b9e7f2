"""Keeping Python's collector of reference cycles off the hot path of a worker's processes."""

from __future__ import annotations

import gc

_YOUNG = 10_000
"""So many new containers before the collector looks at them; Python's own number is 700. A task is
some dozens of these, and none of its is in a cycle."""


def tune_garbage_collection() -> None:
    """Look no more at what was imported until now, which lives for ever, and seldom at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)
