"""Columns of frames from plain values, each with a fixed dtype.

Every dtype is named, because pandas infers others from one version to the next (2 and 3 disagree on
text and on the unit of times), and for an empty frame. Text has escapes for control characters, so
that a printed frame does not control the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbqueue.errors import UsageError
from nbqueue.names import known_names
from nbqueue.printable import shown, without_controls

if TYPE_CHECKING:
    import pandas as pd

_NS_PER_MS = 1_000_000
MISSING = -(2**63) // _NS_PER_MS
"""The number for missing milliseconds."""


def chosen_names(
    columns: Sequence[Any] | str | None,
    default: Sequence[str],
    every: Sequence[str],
    on_demand: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the names of the columns for the argument ``columns`` of a frame.

    None and ``...`` stand for the default ones, ``"all"`` for ``every``; those ``on_demand`` have
    to be named. Raises `UsageError` for an unknown name.
    """
    names: list[Any] = []
    for each in [...] if columns is None else [columns] if isinstance(columns, str) else columns:
        names += default if each is ... else every if each == "all" else [each]
    for name in names:
        if name not in every and name not in on_demand:
            known = known_names(name, (*every, *on_demand))
            raise UsageError(f"columns: {shown(name)} is no column{known}, and 'all'")
    return tuple(dict.fromkeys(names))


def in_seconds(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose durations are ``float64``, of seconds, NaN where missing."""
    spans = frame.select_dtypes("timedelta64").columns
    made: pd.DataFrame = frame.assign(**{name: frame[name].dt.total_seconds() for name in spans})
    return made


def seconds_of(column: pd.Series) -> pd.Series:
    """Return a column of durations in seconds, whether it holds durations or seconds."""
    return column.dt.total_seconds() if column.dtype.kind == "m" else column


def texts(values: Sequence[str | None]) -> Any:
    """Return a column of dtype ``string``."""
    import pandas as pd

    if values and values.count(None) == len(values):
        return pd.array([None], dtype="string").take([0] * len(values))
    return pd.array(list(map(_harmless, values)), dtype="string")


def _harmless(value: str | None) -> str | None:
    return None if value is None else without_controls(value)


def whole(values: Sequence[int | None]) -> Any:
    """Return a column of dtype ``Int64``."""
    import pandas as pd

    return pd.arrays.IntegerArray(*_masked(values, "int64"))


def fractions(values: Sequence[float | None]) -> Any:
    """Return a column of dtype ``Float64``."""
    import pandas as pd

    return pd.arrays.FloatingArray(*_masked(values, "float64"))


def _masked(values: Sequence[float | None], dtype: str) -> tuple[Any, Any]:
    """Return the values as an array, and the mask of missing ones.

    Fast: there may be many.
    """
    import numpy as np

    if None not in values:
        return np.array(values, dtype=dtype), np.zeros(len(values), dtype=bool)
    is_missing = np.array([v is None for v in values], dtype=bool)
    return np.array([v or 0 for v in values], dtype=dtype), is_missing


def truths(values: Sequence[bool | None]) -> Any:
    """Return a column of dtype ``boolean``."""
    import pandas as pd

    return pd.array([pd.NA if v is None else v for v in values], dtype="boolean")


def objects(values: Sequence[Any]) -> Any:
    """Return a column of dtype ``object``."""
    import numpy as np

    column = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):
        column[position] = value
    return column


def name_lists(values: Sequence[Iterable[str]]) -> Any:
    """Return a column of lists of text, of dtype ``object``."""
    return objects([list(map(_nested, each)) for each in values])


def name_dicts(values: Sequence[Mapping[str, Any]]) -> Any:
    """Return a column of dicts with text as keys, of dtype ``object``."""
    return objects(
        [{_nested(key): _nested(value) for key, value in each.items()} for each in values]
    )


def _nested(value: Any) -> Any:
    # pandas prints carriage returns in lists and dicts as they are.
    return without_controls(value).replace("\r", "\\r") if isinstance(value, str) else value


def milliseconds(values: Sequence[int | None]) -> Any:
    """Return an array of integers, with `MISSING` for None."""
    import numpy as np

    if values.count(None) == len(values):
        return np.full(len(values), MISSING, dtype="int64")
    if None not in values:
        return np.array(values, dtype="int64")
    return np.array([MISSING if v is None else v for v in values], dtype="int64")


def instants(ms: Sequence[int | None]) -> pd.DatetimeIndex:
    """Return a column of dtype ``datetime64[ns, UTC]`` from Unix milliseconds."""
    import pandas as pd

    found: pd.DatetimeIndex = pd.DatetimeIndex(_nanoseconds(milliseconds(ms), "datetime64[ns]"))
    return found.tz_localize("UTC")


def spans(ms: Sequence[int | None] | Any) -> pd.TimedeltaIndex:
    """Return a column of dtype ``timedelta64[ns]`` from milliseconds.

    ``ms`` may also be an array of `milliseconds`.
    """
    import pandas as pd

    numbers = milliseconds(ms) if isinstance(ms, Sequence) else ms
    found: pd.TimedeltaIndex = pd.TimedeltaIndex(_nanoseconds(numbers, "timedelta64[ns]"))
    return found


def _nanoseconds(ms: Any, dtype: str) -> Any:
    import numpy as np

    ns = ms * _NS_PER_MS
    # Times beyond the range of nanoseconds are missing.
    ns[abs(ms) >= -MISSING - 1] = np.iinfo("int64").min
    return ns.view(dtype)


def category(values: Sequence[str | None]) -> pd.Categorical:
    """Return a column of dtype ``category`` of text, categories in alphabetical order."""
    import pandas as pd

    # Categories have one dtype in every version of pandas; an empty list would become object.
    values = list(map(_harmless, values))
    known = sorted(v for v in set(values) if v is not None)
    return pd.Categorical(values, dtype=pd.CategoricalDtype(pd.Index(known, dtype="string")))


def ordered_category(values: Sequence[str | None], names: Iterable[str]) -> pd.Categorical:
    """Return an ordered column of dtype ``category`` with the categories ``names``.

    Other values are added at the end, in alphabetical order.
    """
    import pandas as pd

    names = list(names)
    values = list(map(_harmless, values))
    # A newer nbqueue may have written a word that is unknown here.
    new = sorted(v for v in set(values) if v is not None and v not in names)
    known = pd.Index([*names, *new], dtype="string")
    return pd.Categorical(values, dtype=pd.CategoricalDtype(known, ordered=True))
