"""Rows that the store gave as text, as pandas DataFrames with dtypes that never vary.

The dtypes are named one by one, because what pandas infers differs between its versions (2 and 3
disagree on text and on the unit of times) and between an empty frame and a full one. Two frames
whose categories differ lose them when concatenated: read the queues together instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pandas as pd

OUTCOMES: Final = ("completed", "retry", "archived", "lost", "interrupted")
"""How an attempt can end, in the order in which it matters to the task: it is done, tries again,
failed for good, or was cut short and runs again (its process died; its worker was shut down)."""

ATTEMPT_COLUMNS: Final = (
    "task_id",
    "type",
    "queue",
    "attempt",
    "outcome",
    "reason",
    "started_at",
    "finished_at",
    "waited",
    "duration",
    "worker",
    "host",
    "peak_memory",
    "error",
)

_Row = Mapping[str, str]
_Column = Sequence[str | None]
_NS_PER_MS = 1_000_000
_NAT_MS = -(2**63) // _NS_PER_MS


def attempts(rows: Sequence[_Row], *, queue: str = "default") -> pd.DataFrame:
    """Return finished attempts as a frame: a row each, the first to finish first.

    ``rows`` are entries of the attempts streams as text (times in Unix milliseconds, durations in
    milliseconds, memory in bytes); ``queue`` is the queue of those that do not name theirs. The
    columns and dtypes are always these, also for no rows at all:

    ============================  =========================  ====================================
    ``task_id reason error``      ``string``                 reason and error of a failure only
    ``type queue worker host``    ``category`` of text       categories in alphabetical order
    ``outcome``                   ordered ``category``       all of `OUTCOMES`, in that order
    ``attempt``                   ``Int64``                  from 1
    ``started_at finished_at``    ``datetime64[ns, UTC]``    on the store's clock
    ``waited duration``           ``timedelta64[ns]``        waited is NaT where nobody knows it
    ``peak_memory``               ``Int64``                  bytes; missing where nobody knows it
    ============================  =========================  ====================================
    """
    import pandas as pd

    def text(name: str) -> _Column:
        return [row.get(name) or None for row in rows]

    started, finished = _milliseconds(text("started_at")), _milliseconds(text("finished_at"))
    columns = {
        "task_id": pd.array(text("task_id"), dtype="string"),
        "type": _category(text("type")),
        "queue": _category([row.get("queue") or queue for row in rows]),
        "attempt": _whole(text("attempt")),
        "outcome": _outcome(text("outcome")),
        "reason": pd.array(text("reason"), dtype="string"),
        "started_at": _instants(started),
        "finished_at": _instants(finished),
        "waited": _spans(_milliseconds(text("waited"))),
        "duration": _instants(finished) - _instants(started),
        "worker": _category(text("worker")),
        "host": _category(text("host")),
        # An executor that died took its figure with it, and 0 bytes is what stands there then.
        "peak_memory": _whole([None if v == "0" else v for v in text("peak_memory")]),
        "error": pd.array(text("error"), dtype="string"),
    }
    frame = pd.DataFrame(columns, columns=list(ATTEMPT_COLUMNS))
    ordered: pd.DataFrame = frame.sort_values("finished_at", kind="stable", ignore_index=True)
    return ordered


def duration_words(spans: pd.Series) -> pd.Series:
    """Return ``timedelta64`` values as people say them ("1.4s", "2m 05s"); "–" for a missing one.

    For printing; dtype ``object``.
    """
    import pandas as pd

    from nbqueue.durations import format_duration

    seconds: list[float] = spans.dt.total_seconds().tolist()
    words = [format_duration(each) if each == each else "–" for each in seconds]  # NaN: missing
    return pd.Series(words, index=spans.index, dtype="object")


def _milliseconds(values: _Column) -> Any:
    """Text as an ``int64`` array; what is missing becomes a value that reads as NaT."""
    import numpy as np

    return np.array([_NAT_MS if v is None else int(v) for v in values], dtype="int64")


def _nanoseconds(ms: Any, dtype: str) -> Any:
    import numpy as np

    ns = ms * _NS_PER_MS
    ns[ms == _NAT_MS] = np.iinfo("int64").min
    return ns.view(dtype)


def _instants(ms: Any) -> pd.DatetimeIndex:
    import pandas as pd

    instants: pd.DatetimeIndex = pd.DatetimeIndex(_nanoseconds(ms, "datetime64[ns]"))
    return instants.tz_localize("UTC")


def _spans(ms: Any) -> pd.TimedeltaIndex:
    import pandas as pd

    spans: pd.TimedeltaIndex = pd.TimedeltaIndex(_nanoseconds(ms, "timedelta64[ns]"))
    return spans


def _whole(values: _Column) -> Any:
    import pandas as pd

    return pd.array([pd.NA if v is None else int(v) for v in values], dtype="Int64")


def _category(values: _Column) -> pd.Categorical:
    import pandas as pd

    # Categories of one dtype, whatever pandas makes of text: an empty list would become object.
    known = sorted({v for v in values if v is not None})
    return pd.Categorical(values, dtype=pd.CategoricalDtype(pd.Index(known, dtype="string")))


def _outcome(values: _Column) -> pd.Categorical:
    import pandas as pd

    # A newer nbqueue may have written an outcome that is unknown here; it is shown all the same.
    new = sorted({v for v in values if v is not None} - set(OUTCOMES))
    names = pd.Index([*OUTCOMES, *new], dtype="string")
    return pd.Categorical(values, dtype=pd.CategoricalDtype(names, ordered=True))
