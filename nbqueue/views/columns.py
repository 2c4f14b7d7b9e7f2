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
_NAT_MS = -(2**63) // _NS_PER_MS


def texts(values: Sequence[str | None]) -> Any:
    """``string``."""
    import pandas as pd

    return pd.array(list(values), dtype="string")


def whole(values: Sequence[int | None]) -> Any:
    """``Int64``."""
    import pandas as pd

    return pd.array([pd.NA if v is None else v for v in values], dtype="Int64")


def fractions(values: Sequence[float | None]) -> Any:
    """``Float64``."""
    import pandas as pd

    return pd.array([pd.NA if v is None else v for v in values], dtype="Float64")


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


def instants(ms: Sequence[int | None]) -> pd.DatetimeIndex:
    """``datetime64[ns, UTC]`` of Unix milliseconds."""
    import pandas as pd

    found: pd.DatetimeIndex = pd.DatetimeIndex(_nanoseconds(ms, "datetime64[ns]"))
    return found.tz_localize("UTC")


def spans(ms: Sequence[int | None]) -> pd.TimedeltaIndex:
    """``timedelta64[ns]`` of milliseconds."""
    import pandas as pd

    found: pd.TimedeltaIndex = pd.TimedeltaIndex(_nanoseconds(ms, "timedelta64[ns]"))
    return found


def _nanoseconds(ms: Sequence[int | None], dtype: str) -> Any:
    import numpy as np

    numbers = np.array([_NAT_MS if v is None else v for v in ms], dtype="int64")
    ns = numbers * _NS_PER_MS
    # What is beyond the years that nanoseconds can tell is as good as unknown.
    ns[abs(numbers) >= -_NAT_MS - 1] = np.iinfo("int64").min
    return ns.view(dtype)


def category(values: Sequence[str | None]) -> pd.Categorical:
    """``category`` of text, in alphabetical order."""
    import pandas as pd

    # Categories of one dtype, whatever pandas makes of text: an empty list would become object.
    known = sorted({v for v in values if v is not None})
    return pd.Categorical(values, dtype=pd.CategoricalDtype(pd.Index(known, dtype="string")))


def ordered_category(values: Sequence[str | None], names: Iterable[str]) -> pd.Categorical:
    """``category`` of text: all of ``names``, in that order."""
    import pandas as pd

    names = list(names)
    # A newer nbqueue may have written a word that is unknown here; it is shown all the same.
    new = sorted({v for v in values if v is not None} - set(names))
    known = pd.Index([*names, *new], dtype="string")
    return pd.Categorical(values, dtype=pd.CategoricalDtype(known, ordered=True))
