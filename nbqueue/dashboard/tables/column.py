"""`Column`: what a column of a dashboard's table holds, and its unit."""

from __future__ import annotations

from typing import Final, NamedTuple

TEXT: Final = "text"
STATE: Final = "state"
COUNT: Final = "count"
MOMENT: Final = "ms"
SECONDS: Final = "s"
BYTES: Final = "bytes"
SHARE: Final = "share"
"""Units of columns. A moment is in Unix milliseconds, a share 1.0 for all."""

NUMBERS: Final = frozenset({COUNT, SECONDS, BYTES, SHARE})


class Column(NamedTuple):
    """A column: the attribute ``name`` of each row, with a title and a unit."""

    name: str
    title: str
    unit: str = TEXT
    can_sort: bool = True
