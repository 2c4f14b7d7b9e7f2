"""Frames of attempts: fixed columns and dtypes for any rows and any version of pandas."""

from __future__ import annotations

import pandas as pd
import pytest

from nbqueue.views.frames.attempt_frames import ATTEMPT_COLUMNS, OUTCOMES, attempts, duration_words

DONE = {
    "task_id": "a",
    "type": "fit",
    "queue": "gpu",
    "attempt": "2",
    "started_at": "1700000000000",
    "finished_at": "1700000001500",
    "waited": "250",
    "worker": "host:7:0a0b0c0d",
    "host": "host",
    "outcome": "completed",
    "peak_memory": "1048576",
}
LOST = DONE | {
    "task_id": "b",
    "outcome": "lost",
    "finished_at": "1700000000900",
    "waited": "",
    "peak_memory": "0",
    "reason": "killed",
    "error": "its process was killed",
}
DTYPES = {
    "task_id": "string",
    "type": "category",
    "queue": "category",
    "attempt": "Int64",
    "outcome": "category",
    "reason": "string",
    "started_at": "datetime64[ns, UTC]",
    "finished_at": "datetime64[ns, UTC]",
    "waited": "timedelta64[ns]",
    "duration": "timedelta64[ns]",
    "worker": "category",
    "host": "category",
    "peak_memory": "Int64",
    "error": "string",
    "fault": "string",
}


@pytest.mark.parametrize("rows", [[], [DONE], [LOST], [DONE, LOST]])
def test_columns_and_dtypes_never_vary(rows: list[dict[str, str]]) -> None:
    frame = attempts(rows)
    assert tuple(frame.columns) == ATTEMPT_COLUMNS
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == DTYPES
    for name in ("type", "queue", "worker", "host", "outcome"):
        assert frame[name].cat.categories.dtype == "string"
    assert tuple(frame["outcome"].cat.categories) == OUTCOMES


def test_values_are_those_of_the_rows_in_the_order_of_their_ends() -> None:
    frame = attempts([DONE, LOST])
    assert list(frame["task_id"]) == ["b", "a"]
    first, second = frame.iloc[0], frame.iloc[1]
    assert second["started_at"] == pd.Timestamp("2023-11-14 22:13:20", tz="UTC")
    assert second["duration"] == pd.Timedelta(seconds=1.5)
    assert second["waited"] == pd.Timedelta(milliseconds=250)
    assert (second["attempt"], second["peak_memory"], second["queue"]) == (2, 2**20, "gpu")
    assert second[["reason", "error"]].isna().all()
    assert first["reason"] == "killed"
    assert first[["waited", "peak_memory"]].isna().all()


def test_a_row_without_a_queue_takes_the_default() -> None:
    rows = [{name: value for name, value in DONE.items() if name != "queue"}]
    assert list(attempts(rows)["queue"]) == ["default"]
    assert list(attempts(rows, queue="critical")["queue"]) == ["critical"]


def test_an_outcome_of_a_newer_version_is_shown() -> None:
    frame = attempts([DONE, DONE | {"outcome": "borrowed"}])
    assert list(frame["outcome"]) == ["completed", "borrowed"]
    assert tuple(frame["outcome"].cat.categories) == (*OUTCOMES, "borrowed")


def test_durations_are_said_as_people_say_them() -> None:
    frame = attempts([LOST, DONE])
    assert list(duration_words(frame["duration"])) == ["900ms", "1.5s"]
    assert list(duration_words(frame["waited"])) == ["–", "250ms"]
    assert list(duration_words(attempts([])["waited"])) == []
