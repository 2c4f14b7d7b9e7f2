"""Numbers as a line of block characters. Pure function."""

from __future__ import annotations

from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"


def spark(numbers: Sequence[float]) -> str:
    """Return one block for each number, on a scale from 0 to the largest."""
    most = max(numbers, default=0)
    if most <= 0:
        return _BLOCKS[0] * len(numbers)
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round(top * max(number, 0) / most)] for number in numbers)
