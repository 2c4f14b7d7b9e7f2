"""Columns of arguments: their names, order and dtypes."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbqueue.views.frames.argument_columns import MOST_COLUMNS, argument_columns, column_names

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
MISSING = Ellipsis


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([1, MISSING], "Int64"),
        ([1, None], "Int64"),
        ([2**70, 1], "object"),
        ([1, 0.5], "float64"),
        ([0.5, MISSING], "float64"),
        ([2**60, 0.5], "object"),
        ([np.int32(1), np.float32(2)], "float64"),
        ([True, False], "bool"),
        ([True, None], "boolean"),
        ([True, 1], "object"),
        (["a", MISSING], "string"),
        ([NOON, pd.Timestamp(NOON), None], "datetime64[ns, UTC]"),
        ([NOON.replace(tzinfo=None)], "datetime64[ns]"),
        ([NOON, NOON.replace(tzinfo=None)], "object"),
        ([timedelta(1), MISSING], "timedelta64[ns]"),
        ([[1], [2]], "object"),
        ([None, None], "object"),
        ([np.zeros(2), 1], "object"),
    ],
    ids=str,
)
def test_dtypes(values: list[Any], dtype: str) -> None:
    named = [{} if value is MISSING else {"x": value} for value in values]
    frame = pd.DataFrame(argument_columns(named, ["x"]))
    assert str(frame["arg.x"].dtype) == dtype
    assert frame["arg.x"].isna().tolist() == [v is MISSING or v is None for v in values]


def test_names_are_printable_and_in_the_order_of_occurrence() -> None:
    named: list[dict[str, Any]] = [{"lr": 1, "a\x1b[2J": 2}, {"depth": 3, "lr": 4}]
    names, left_out = column_names(named)
    assert left_out == []
    assert list(argument_columns(named, names)) == ["arg.lr", "arg.a\\x1b[2J", "arg.depth"]


def test_only_the_names_of_most_tasks_have_columns() -> None:
    named: list[dict[str, Any]] = [{f"k{i}": 1, "common": 2} for i in range(1_000)]
    names, left_out = column_names(named)
    assert len(names) == MOST_COLUMNS
    assert "common" in names
    assert len(names) + len(left_out) == 1_001
