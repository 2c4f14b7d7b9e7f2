"""Types and defaults of the keyword arguments that make tasks and schedules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import datetime
from typing import Any, Final, Literal, TypedDict

from nbqueue.durations import Duration
from nbqueue.limits import Limit
from nbqueue.options import TaskOptions


class OptionKeywords(TypedDict, total=False):
    """The keyword arguments of `Client.options`, which describes each."""

    queue: str
    retry: int | None
    timeout: Duration | None
    deadline: datetime | None
    delay: Duration | None
    at: datetime | None
    retention: Duration | None
    unique: Duration | None
    on_conflict: Literal["raise", "existing", "replace", "after"]
    group: str | None
    limit: Limit | None
    task_id: str | None
    name: str | None
    headers: Mapping[str, str]
    on_lost: Literal["rerun", "fail"]
    retry_delay: Any
    retry_on: Any
    codec: Literal["pickle", "json"]
    seed: int | None
    fresh: bool


class ScheduleSettings(TypedDict, total=False):
    """The keyword arguments of `Schedule.update`."""

    tz: str
    missed: Literal["once", "skip", "all"]
    overlap: bool
    jitter: Duration
    start: datetime | None
    until: datetime | None
    max_runs: int | None


class ScheduleKeywords(ScheduleSettings, OptionKeywords, total=False):
    """The keyword arguments of `Client.schedule`: those of a schedule, and of its tasks."""

    id: str | None


SCHEDULE_DEFAULTS: Final[Mapping[str, Any]] = {
    "tz": "UTC", "missed": "once", "overlap": True, "jitter": 0, "start": None, "until": None,
    "max_runs": None,
}  # fmt: skip
OPTION_DEFAULTS: Final[Mapping[str, Any]] = {
    each.name: {} if each.default is MISSING else each.default for each in fields(TaskOptions)
}
