"""Frames of tasks, queues, workers and schedules: fixed columns and dtypes for any rows."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pandas as pd
import pytest

from nbqueue.broker.reads.models import ActiveTask, QueueInfo, ServerInfo
from nbqueue.broker.reads.task_table import TaskRow, TaskTable
from nbqueue.errors import UsageError
from nbqueue.views.frames import task_frames
from nbqueue.views.frames.queue_frames import SCHEDULE_COLUMNS, queues, schedules, workers
from nbqueue.views.frames.task_frames import (
    DEFAULT_COLUMNS,
    ON_DEMAND,
    TASK_COLUMNS,
    as_attempts,
    chosen_columns,
    ordered,
)
from nbqueue.views.plots.timeline import timeline
from nbqueue.wire import states
from nbqueue.wire.messages import TaskMessage

T0 = 1_700_000_000_000
MOMENT = datetime(2026, 1, 2, tzinfo=timezone.utc)
TASK_DTYPES = {
    "type": "category",
    "name": "string",
    "queue": "category",
    "state": "category",
    "attempt": "Int64",
    "max_retry": "Int64",
    "enqueued_at": "datetime64[ns, UTC]",
    "process_at": "datetime64[ns, UTC]",
    "started_at": "datetime64[ns, UTC]",
    "finished_at": "datetime64[ns, UTC]",
    "waited": "timedelta64[ns]",
    "duration": "timedelta64[ns]",
    "worker": "category",
    "progress": "Float64",
    "error": "string",
    "fault": "string",
}
DEMANDED_DTYPES = {
    "payload": "object",
    "arguments": "object",
    "headers": "object",
    "retention": "timedelta64[ns]",
    "result": "object",
    "exception": "object",
}
LOADERS = dict.fromkeys(("arguments", "result", "exception"), lambda row: [row.task_id])


def row(task_id: str, state: str, message: dict[str, Any] | None = None, **known: Any) -> TaskRow:
    told = TaskMessage(type="fit", retry=3, **(message or {}))
    return TaskRow(task_id, "q", state, told, **known)


def tasks(rows: list[TaskRow], **options: Any) -> pd.DataFrame:
    return task_frames.tasks(ordered(TaskTable.of(rows)), **options)


DONE = row("b", "completed", attempt=1, enqueued_ms=T0 + 1, started_ms=T0 + 10,
           finished_ms=T0 + 40, waited_ms=9, worker="h:1:a", progress=0.5, name="n")  # fmt: skip
WAITS = row("a", "pending", enqueued_ms=T0, pending_ms=T0 + 50)
RUNS = row("c", "active", attempt=2, enqueued_ms=T0 + 2, started_ms=T0 + 60)
FAILED = row("d", "retry", {"retried": 1, "error_msg": "no", "retention": 60,
             "headers": {"k": "v"}, "payload": b"p"})  # fmt: skip


@pytest.mark.parametrize("rows", [[], [DONE], [WAITS], [DONE, WAITS, RUNS, FAILED]])
def test_columns_and_dtypes_of_tasks_never_vary(rows: list[TaskRow]) -> None:
    frame = tasks(rows, as_of_ms=T0 + 100)
    assert tuple(frame.columns) == TASK_COLUMNS == tuple(TASK_DTYPES)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == TASK_DTYPES
    assert (frame.index.name, str(frame.index.dtype)) == ("task_id", "string")
    assert tuple(frame["state"].cat.categories) == states.ALL
    assert frame["state"].cat.ordered
    for name in ("type", "queue", "worker", "state"):
        assert frame[name].cat.categories.dtype == "string"
    more = tasks(rows, as_of_ms=T0, columns=ON_DEMAND, loaders=LOADERS)
    assert {name: str(dtype) for name, dtype in more.dtypes.items()} == DEMANDED_DTYPES


def test_values_are_those_of_the_rows_the_first_enqueued_first() -> None:
    frame = tasks([DONE, WAITS, RUNS], as_of_ms=T0 + 100)
    assert list(frame.index) == ["a", "b", "c"]
    waits, done, runs = (frame.loc[i] for i in ("a", "b", "c"))
    assert done["started_at"] == pd.Timestamp(T0 + 10, unit="ms", tz="UTC")
    assert (done["duration"], done["waited"]) == (pd.Timedelta(30, "ms"), pd.Timedelta(9, "ms"))
    assert (done["worker"], done["progress"], done["name"]) == ("h:1:a", 0.5, "n")
    assert pd.isna(done["error"])
    assert pd.isna(done["process_at"])
    # Times of running tasks are as of the reading.
    assert waits["waited"] == pd.Timedelta(50, "ms")
    assert runs["duration"] == pd.Timedelta(40, "ms")
    assert waits[["started_at", "finished_at", "duration", "worker"]].isna().all()


def test_durations_can_be_seconds() -> None:
    frame = tasks([DONE, FAILED], as_of_ms=T0, columns=("waited", "retention"), seconds=True)
    assert [str(dtype) for dtype in frame.dtypes] == ["float64", "float64"]
    assert frame.loc["b", "waited"] == 0.009
    assert frame.loc["d", "retention"] == 60.0
    assert pd.isna(frame.loc["d", "waited"])


def test_columns_on_demand_have_what_was_loaded() -> None:
    columns = ("payload", "headers", "retention", "result")
    frame = tasks([FAILED], as_of_ms=T0, columns=columns, loaders=LOADERS)
    assert frame.loc["d"].to_dict() == {
        "payload": b"p", "headers": {"k": "v"}, "retention": pd.Timedelta("60s"), "result": ["d"],
    }  # fmt: skip


def test_attempts_of_programs_in_go_are_told_from_their_retries() -> None:
    rows = [FAILED, row("e", "completed", {"retried": 2}), row("f", "pending", {"retried": 2})]
    assert tasks(rows, as_of_ms=T0)["attempt"].to_dict() == {"d": 2, "e": 3, "f": 2}


def test_columns_are_chosen_by_name() -> None:
    assert chosen_columns(None) == DEFAULT_COLUMNS
    assert chosen_columns("all") == TASK_COLUMNS
    assert chosen_columns(["state", "fault", "state"]) == ("state", "fault")
    assert chosen_columns("state") == ("state",)
    assert chosen_columns([..., "result", "type"]) == (*DEFAULT_COLUMNS, "result")
    with pytest.raises(
        UsageError, match="'resutl' is no column: did you mean 'result'\\? There are type, name"
    ):
        chosen_columns(["resutl"])


# pandas 2 warns of the way in which pandas 3 treats empty columns.
@pytest.mark.filterwarnings("ignore:The behavior of DataFrame concatenation:FutureWarning")
def test_two_frames_of_tasks_put_together_keep_the_dtype_of_their_states() -> None:
    both = pd.concat([tasks([DONE], as_of_ms=T0), tasks([WAITS], as_of_ms=T0)])
    assert str(both["state"].dtype) == "category"


def test_tasks_can_be_drawn_as_their_last_attempts() -> None:
    frame = tasks([DONE, WAITS, FAILED], as_of_ms=T0)
    ended = as_attempts(frame)
    assert ended[["task_id", "outcome"]].to_numpy().tolist() == [["d", "retry"], ["b", "completed"]]
    assert len(timeline(ended).axes) == 1
    with pytest.raises(UsageError, match="no column worker"):
        as_attempts(frame.drop(columns="worker"))


INFO = QueueInfo("q", 3, 0, 1, 0, 0, 0, 2, 0, 0, 5, 1, 50, 10, 0, True, 1.5, None, MOMENT)
SERVER = ServerInfo(
    "h:7:ab", "h", 7, 4, {"q": 1}, False, MOMENT, "active",
    (ActiveTask("t", "fit", b"", "q", MOMENT, None),),
)  # fmt: skip


@pytest.mark.parametrize("infos", [[], [INFO]])
def test_columns_and_dtypes_of_queues_never_vary(infos: list[QueueInfo]) -> None:
    frame = queues(infos)
    found = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert found == dict.fromkeys(frame.columns, "Int64") | {
        "paused": "boolean", "latency": "timedelta64[ns]", "fault": "string"
    }  # fmt: skip
    assert (frame.index.name, str(frame.index.dtype)) == ("queue", "string")
    if infos:
        told = frame.loc["q"]
        assert (told["size"], told["archived"], told["processed_total"]) == (3, 2, 50)
        assert told["latency"] == pd.Timedelta("1.5s")
        assert told["paused"] is True or bool(told["paused"])


@pytest.mark.parametrize("infos", [[], [SERVER]])
def test_columns_and_dtypes_of_workers_never_vary(infos: list[ServerInfo]) -> None:
    as_of_ms = round(MOMENT.timestamp() * 1000) + 60_000
    frame = workers(infos, as_of_ms)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "host": "category", "pid": "Int64", "status": "category", "concurrency": "Int64",
        "active": "Int64", "queues": "object", "strict_priority": "boolean",
        "started_at": "datetime64[ns, UTC]", "uptime": "timedelta64[ns]", "tasks": "object",
    }  # fmt: skip
    if infos:
        told = frame.loc["h:7:ab"]
        assert told["uptime"] == pd.Timedelta("1min")
        assert (told["queues"], told["tasks"], told["active"]) == ({"q": 1}, ["t"], 1)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [
            {
                "id": "nightly",
                "spec": "@daily",
                "tz": "UTC",
                "queue": "q",
                "next_at": MOMENT,
                "jitter": 30.0,
                "runs": 3,
                "overlap": True,
            }
        ],
    ],
)
def test_columns_and_dtypes_of_schedules_never_vary(rows: list[dict[str, Any]]) -> None:
    frame = schedules(rows)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "spec": "string", "tz": "category", "queue": "category", "type": "category",
        "paused": "boolean", "next_at": "datetime64[ns, UTC]", "prev_at": "datetime64[ns, UTC]",
        "runs": "Int64", "last_task_id": "string", "missed": "category", "overlap": "boolean",
        "jitter": "timedelta64[ns]", "start": "datetime64[ns, UTC]",
        "until": "datetime64[ns, UTC]", "max_runs": "Int64", "owner": "category",
        "created_at": "datetime64[ns, UTC]", "fault": "string",
    }  # fmt: skip
    assert tuple(frame.columns) == SCHEDULE_COLUMNS
    if rows:
        assert frame.loc["nightly", "next_at"] == pd.Timestamp(MOMENT)
        assert frame.loc["nightly", "jitter"] == pd.Timedelta("30s")
        assert frame.loc["nightly", ["prev_at", "owner", "max_runs"]].isna().all()
