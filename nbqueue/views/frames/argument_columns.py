"""Columns of arguments: one for each name, with the dtype that suits all of its values."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from nbqueue.printable import printable
from nbqueue.views.frames.columns import objects, texts, truths, whole

MOST_COLUMNS: Final = 200
"""The most columns of arguments in a frame: messages of strangers may have any keys."""

_MISSING: Final = object()
_LARGEST_INT: Final = 2**63 - 1
_LARGEST_EXACT: Final = 2**53


def column_names(named: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Return the names of arguments in the order in which they occur, and those left out.

    Those of the fewest tasks are left out if there are too many.
    """
    counts = Counter(name for each in named for name in each)
    if len(counts) <= MOST_COLUMNS:
        return list(counts), []
    kept = {name for name, _ in counts.most_common(MOST_COLUMNS)}
    return [name for name in counts if name in kept], [n for n in counts if n not in kept]


def argument_columns(named: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return the columns ``arg.<name>`` of the arguments of each row.

    int64, float64 (also for whole numbers and fractions together), bool, ``string``,
    ``datetime64[ns]`` (in UTC, for datetimes with a zone) and ``timedelta64[ns]`` where all values
    are alike, else ``object``. With missing values and None, whole numbers and truth values are
    ``Int64`` and ``boolean``; in an ``object`` column None is kept.
    """
    return {
        f"arg.{printable(name)}": _column([each.get(name, _MISSING) for each in named])
        for name in names
    }


def _column(values: list[Any]) -> Any:
    import pandas as pd

    scalars = list(map(_scalar, values))
    kinds = {type(value) for value in scalars if value is not _MISSING} - {type(None)}
    try:
        made = _typed(scalars, kinds) if kinds else None
    except (OverflowError, ValueError, TypeError):  # such as a time beyond nanoseconds
        made = None
    if made is not None:
        return made
    return objects([pd.NA if value is _MISSING else value for value in values])


def _scalar(value: Any) -> Any:
    """Return a scalar of numpy as the value of Python that it is."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        kinds = (numpy.bool_, numpy.integer, numpy.floating, numpy.str_)
        return value.item() if isinstance(value, kinds) else value
    return value


def _typed(values: list[Any], kinds: set[type]) -> Any:
    """Return a column of one dtype; None if the values have none in common."""
    import numpy as np
    import pandas as pd

    known = [None if value is _MISSING else value for value in values]
    has_all = None not in known
    if kinds == {bool}:
        return np.array(known, dtype=bool) if has_all else truths(known)
    if kinds == {int}:
        if not all(-_LARGEST_INT <= value <= _LARGEST_INT for value in known if value is not None):
            return None
        return np.array(known, dtype="int64") if has_all else whole(known)
    if kinds <= {int, float}:
        if any(type(value) is int and abs(value) > _LARGEST_EXACT for value in known):
            return None
        return np.array([np.nan if v is None else v for v in known], dtype="float64")
    if kinds == {str}:
        return texts(known)
    column: Any = pd.Series(known, dtype=object)
    if kinds <= {datetime, pd.Timestamp}:
        zones = {value.tzinfo is not None for value in known if value is not None}
        if len(zones) == 1:
            return pd.DatetimeIndex(pd.to_datetime(column, utc=zones == {True})).as_unit("ns")
    if kinds <= {timedelta, pd.Timedelta}:
        return pd.TimedeltaIndex(column).as_unit("ns")
    return None
