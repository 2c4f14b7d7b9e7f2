"""Attempts summed up by queue, type, worker, hour or day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from nbqueue.broker.reads.models import DailyStats
from nbqueue.errors import UsageError
from nbqueue.names import known_names
from nbqueue.printable import shown
from nbqueue.views.frames.attempt_frames import OUTCOMES
from nbqueue.views.frames.columns import seconds_of

if TYPE_CHECKING:
    import pandas as pd

BY: Final = ("queue", "type", "worker", "hour", "day")

_FAILURES: Final = ("retry", "archived", "lost")

STATS_COLUMNS: Final = (
    "attempts",
    *OUTCOMES,
    "failure_rate",
    "waited_median",
    "waited_p95",
    "duration_median",
    "duration_p95",
    "duration_total",
    "peak_memory",
)


def check_by(by: str) -> None:
    """Raise `UsageError` unless attempts can be summed up by ``by``."""
    if by not in BY:
        raise UsageError(f"by={shown(by)} is no key of statistics{known_names(by, BY)}")


def stats(attempts: pd.DataFrame, by: str, days: Sequence[DailyStats] = ()) -> pd.DataFrame:
    """Sum up a frame of attempts by queue, type, worker, hour or day (UTC).

    The columns are `STATS_COLUMNS`, indexed by ``by``: numbers of attempts, in all and for each
    outcome (``Int64``); ``failure_rate``, the part that ended as retry, archived or lost
    (``Float64``); times (``timedelta64[ns]``); the greatest ``peak_memory`` in bytes (``Int64``).
    Hours without attempts have a row, too. ``days`` are counters of the store, which include the
    attempts of programs in Go: days are at least as large as these.
    """
    import pandas as pd

    check_by(by)
    keys = _keys(attempts, by)
    groups = attempts.groupby(keys, observed=True, sort=True)
    outcomes = attempts["outcome"].astype("string")
    columns: dict[str, Any] = {"attempts": groups.size()}
    for name in OUTCOMES:
        columns[name] = (outcomes == name).astype("Int64").groupby(keys, observed=True).sum()
    for name in ("waited", "duration"):
        seconds = seconds_of(attempts[name]).groupby(keys, observed=True)
        columns[f"{name}_median"] = _spans(seconds.median())
        columns[f"{name}_p95"] = _spans(seconds.quantile(0.95))
        columns[f"{name}_total"] = _spans(seconds.sum())
    columns["peak_memory"] = groups["peak_memory"].max()
    frame: pd.DataFrame = pd.DataFrame(columns)
    if by in ("hour", "day"):
        frame = _with_gaps(frame, by, days)
    counted = ["attempts", *OUTCOMES]
    frame[counted] = frame[counted].fillna(0)
    if by == "day":
        frame = _counted(frame, days)
    failed = frame[list(_FAILURES)].sum(axis=1)
    frame["failure_rate"] = (failed / frame["attempts"].where(frame["attempts"] > 0)).astype(
        "Float64"
    )
    frame = frame[list(STATS_COLUMNS)].astype(
        dict.fromkeys([*counted, "peak_memory"], "Int64") | {"failure_rate": "Float64"}
    )
    frame.index.name = by
    return frame


def _keys(attempts: pd.DataFrame, by: str) -> pd.Series:
    if by in ("hour", "day"):
        keys = attempts["finished_at"].dt.floor("h" if by == "hour" else "D")
    else:
        keys = attempts[by].astype("string")
    named: pd.Series = keys.rename(by)
    return named


def _spans(seconds: pd.Series) -> pd.Series:
    import pandas as pd

    # Nanoseconds: pandas 3 would choose a coarser unit.
    spans: pd.Series = pd.to_timedelta(seconds, unit="s").astype("timedelta64[ns]")
    return spans


def _with_gaps(frame: pd.DataFrame, by: str, days: Sequence[DailyStats]) -> pd.DataFrame:
    """Return the frame with every hour or day between the first and the last."""
    import pandas as pd

    known = list(frame.index)
    if by == "day":
        known += [pd.Timestamp(day.date, tz="UTC") for day in days if day.processed]
    step = "h" if by == "hour" else "D"
    whole = pd.date_range(min(known), max(known), freq=step) if known else pd.DatetimeIndex([])
    if whole.tz is None:
        whole = whole.tz_localize("UTC")
    filled: pd.DataFrame = frame.reindex(whole.as_unit("ns"))
    return filled


def _counted(frame: pd.DataFrame, days: Sequence[DailyStats]) -> pd.DataFrame:
    """Raise the outcomes of each day to the counters of the store."""
    import pandas as pd

    for day in days:
        at = pd.Timestamp(day.date, tz="UTC")
        if at not in frame.index or not day.processed:
            continue
        failed = int(frame.loc[at, list(_FAILURES)].sum())
        more_failed = max(0, day.failed - failed)
        more = max(0, day.processed - int(frame.loc[at, "attempts"]))
        frame.loc[at, "attempts"] += max(more, more_failed)
        frame.loc[at, "retry"] += more_failed
        frame.loc[at, "completed"] += max(0, more - more_failed)
    return frame
