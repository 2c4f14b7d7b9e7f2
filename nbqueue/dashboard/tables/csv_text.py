"""Tables of dashboards as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from nbqueue.clock import from_ms
from nbqueue.dashboard.tables.column import MOMENT, Column
from nbqueue.printable import printable

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of formulas in a spreadsheet."""


def csv_text(columns: Sequence[Column], rows: Iterable[Any]) -> str:
    """Return rows as CSV with a line of titles. Moments are ISO 8601 in UTC, other values numbers.

    A text that a spreadsheet would run as a formula begins with an apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_title(column) for column in columns])
    for row in rows:
        writer.writerow([_value(column, getattr(row, column.name)) for column in columns])
    return out.getvalue()


def _title(column: Column) -> str:
    title = column.title or column.name
    return f"{title} (UTC)" if column.unit == MOMENT else title


def _value(column: Column, value: Any) -> Any:
    if value is None:
        return ""
    if column.unit == MOMENT:
        return from_ms(value).isoformat(timespec="milliseconds")
    if isinstance(value, str):
        text = printable(value, lines=True)
        return f"'{text}" if text.startswith(_FORMULA) else text
    return value
