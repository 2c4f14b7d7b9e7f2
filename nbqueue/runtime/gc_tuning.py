"""Keep the garbage collector off the hot path of a worker's processes."""

from __future__ import annotations

import gc

_YOUNG = 10_000
"""The number of new containers between two collections; Python's default is 700.

A task creates some dozens, and none of them is in a cycle.
"""


def tune_garbage_collection() -> None:
    """Exclude imported objects from collection, and collect the rest rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)
