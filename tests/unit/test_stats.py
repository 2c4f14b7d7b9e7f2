"""Sums of attempts by each key: a fixed schema, and right numbers."""

from __future__ import annotations

from datetime import date
from typing import Any

import pandas as pd
import pytest

from nbqueue.broker.reads.models import DailyStats
from nbqueue.errors import UsageError
from nbqueue.views.frames.attempt_frames import OUTCOMES, attempts
from nbqueue.views.frames.stats import BY, STATS_COLUMNS, stats

T0 = 1_700_000_000_000  # 2023-11-14 22:13:20 UTC


def row(seconds: float, outcome: str = "completed", **other: str) -> dict[str, str]:
    ms = round(seconds * 1000)
    return {
        "task_id": "a", "type": "fit", "queue": "gpu", "attempt": "1", "worker": "h:1:a",
        "started_at": str(T0 + ms - 200), "finished_at": str(T0 + ms), "waited": "100",
        "host": "h", "outcome": outcome, "peak_memory": "1000",
    } | other  # fmt: skip


MANY = [
    row(0),
    row(1, "retry", peak_memory="5000"),
    row(2, "archived", waited=""),
    row(3, "lost", type="load", peak_memory="0"),
    row(2 * 3600, "interrupted", type="load"),
]


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("rows", [[], [row(0)], MANY])
def test_columns_and_dtypes_never_vary(rows: list[dict[str, str]], by: str) -> None:
    frame = stats(attempts(rows), by)
    assert tuple(frame.columns) == STATS_COLUMNS
    assert frame.index.name == by
    whole = dict.fromkeys(("attempts", *OUTCOMES, "peak_memory"), "Int64")
    times = [name for name in STATS_COLUMNS if name.startswith(("waited", "duration"))]
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == whole | dict.fromkeys(
        times, "timedelta64[ns]"
    ) | {"failure_rate": "Float64"}
    kind = "datetime64[ns, UTC]" if by in ("hour", "day") else "string"
    assert str(frame.index.dtype) == kind


def test_attempts_are_summed_up_by_type() -> None:
    frame = stats(attempts(MANY), "type")
    assert list(frame.index) == ["fit", "load"]
    fit, load = frame.loc["fit"], frame.loc["load"]
    assert [fit[name] for name in ("attempts", *OUTCOMES)] == [3, 1, 1, 1, 0, 0]
    assert fit["failure_rate"] == pytest.approx(2 / 3)
    assert load["failure_rate"] == 0.5
    assert fit["peak_memory"] == 5000
    assert fit["waited_median"] == pd.Timedelta("100ms")
    assert fit["duration_total"] == pd.Timedelta("600ms")


def test_hours_in_which_nothing_ended_are_there() -> None:
    frame = stats(attempts(MANY), "hour")
    assert [each.hour for each in frame.index] == [22, 23, 0]
    assert list(frame["attempts"]) == [4, 0, 1]
    assert frame["failure_rate"].isna().tolist() == [False, True, False]


def test_days_count_what_programs_in_go_did() -> None:
    days = [DailyStats("", date(2023, 11, 15), 10, 4), DailyStats("", date(2023, 11, 12), 2, 0)]
    frame = stats(attempts(MANY), "day", days)
    assert [each.day for each in frame.index] == [12, 13, 14, 15]
    counts: Any = frame[["attempts", "completed", "retry", "interrupted"]]
    assert counts.to_numpy().tolist() == [[2, 2, 0, 0], [0, 0, 0, 0], [4, 1, 1, 0], [10, 5, 4, 1]]
    assert frame["failure_rate"].iloc[-1] == pytest.approx(0.4)


def test_what_attempts_cannot_be_summed_up_by_is_refused() -> None:
    with pytest.raises(
        UsageError, match="by='host' is no key of statistics; there are queue, type"
    ):
        stats(attempts([]), "host")
