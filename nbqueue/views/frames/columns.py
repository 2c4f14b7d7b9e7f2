"""Columns of frames from plain values, each with a dtype that never varies.

The dtypes are named one by one, because what pandas infers differs between its versions (2 and 3
disagree on text and on the unit of times) and between an empty frame and a full one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_NS_PER_MS = 1_000_000
MISSING = -(2**63) // _NS_PER_MS
"""What stands for a missing number of milliseconds."""


def texts(values: Sequence[str | None]) -> Any:
    """``string``."""
    import pandas as pd

    if values and values.count(None) == len(values):
        return pd.array([None], dtype="string").take([0] * len(values))
    return pd.array(list(map(_printable, values)), dtype="string")


def _printable(value: str | None) -> str | None:
    """``value`` with escapes for bytes that are no UTF-8, which no column of text can hold."""
    if value is None or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()


def whole(values: Sequence[int | None]) -> Any:
    """``Int64``."""
    import pandas as pd

    return pd.arrays.IntegerArray(*_masked(values, "int64"))


def fractions(values: Sequence[float | None]) -> Any:
    """``Float64``."""
    import pandas as pd

    return pd.arrays.FloatingArray(*_masked(values, "float64"))


def _masked(values: Sequence[float | None], dtype: str) -> tuple[Any, Any]:
    """The values, and which are missing. These may be many, so little is done for each."""
    import numpy as np

    if None not in values:
        return np.array(values, dtype=dtype), np.zeros(len(values), dtype=bool)
    is_missing = np.array([v is None for v in values], dtype=bool)
    return np.array([v or 0 for v in values], dtype=dtype), is_missing


def truths(values: Sequence[bool | None]) -> Any:
    """``boolean``."""
    import pandas as pd

    return pd.array([pd.NA if v is None else v for v in values], dtype="boolean")


def objects(values: Sequence[Any]) -> Any:
    """``object``, whatever the values are."""
    import numpy as np

    column = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):
        column[position] = value
    return column


def milliseconds(values: Sequence[int | None]) -> Any:
    """These as an array, with `MISSING` for what is missing."""
    import numpy as np

    if values.count(None) == len(values):
        return np.full(len(values), MISSING, dtype="int64")
    if None not in values:
        return np.array(values, dtype="int64")
    return np.array([MISSING if v is None else v for v in values], dtype="int64")


def instants(ms: Sequence[int | None]) -> pd.DatetimeIndex:
    """``datetime64[ns, UTC]`` of Unix milliseconds."""
    import pandas as pd

    found: pd.DatetimeIndex = pd.DatetimeIndex(_nanoseconds(milliseconds(ms), "datetime64[ns]"))
    return found.tz_localize("UTC")


def spans(ms: Sequence[int | None] | Any) -> pd.TimedeltaIndex:
    """``timedelta64[ns]`` of milliseconds; also of what `milliseconds` made."""
    import pandas as pd

    numbers = milliseconds(ms) if isinstance(ms, Sequence) else ms
    found: pd.TimedeltaIndex = pd.TimedeltaIndex(_nanoseconds(numbers, "timedelta64[ns]"))
    return found


def _nanoseconds(ms: Any, dtype: str) -> Any:
    import numpy as np

    ns = ms * _NS_PER_MS
    # What is beyond the years that nanoseconds can tell is as good as unknown.
    ns[abs(ms) >= -MISSING - 1] = np.iinfo("int64").min
    return ns.view(dtype)


def category(values: Sequence[str | None]) -> pd.Categorical:
    """``category`` of text, in alphabetical order."""
    import pandas as pd

    # Categories of one dtype, whatever pandas makes of text: an empty list would become object.
    values = list(map(_printable, values))
    known = sorted(v for v in set(values) if v is not None)
    return pd.Categorical(values, dtype=pd.CategoricalDtype(pd.Index(known, dtype="string")))


def ordered_category(values: Sequence[str | None], names: Iterable[str]) -> pd.Categorical:
    """``category`` of text: all of ``names``, in that order."""
    import pandas as pd

    names = list(names)
    # A newer nbqueue may have written a word that is unknown here; it is shown all the same.
    new = sorted(v for v in set(values) if v is not None and v not in names)
    known = pd.Index([*names, *new], dtype="string")
    return pd.Categorical(values, dtype=pd.CategoricalDtype(known, ordered=True))
