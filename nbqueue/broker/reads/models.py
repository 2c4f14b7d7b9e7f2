"""What an inspector tells: queues, tasks, workers and schedules, as they lie in the store.

Times are datetimes in UTC, durations seconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from nbqueue.moved_modules import public


@public
@dataclass(frozen=True)
class QueueInfo:
    """A queue as a whole, at one moment."""

    queue: str
    size: int
    """All tasks, of whatever state."""
    groups: int
    """How many aggregation groups have tasks."""
    pending: int
    active: int
    scheduled: int
    retry: int
    archived: int
    completed: int
    aggregating: int
    """Tasks in groups, and those that are just being aggregated."""
    processed: int
    """Attempts that ended today (UTC), failed ones included."""
    failed: int
    processed_total: int
    failed_total: int
    trimmed: int
    """How many tasks were ever dropped from the full archive."""
    paused: bool
    latency: float | None
    """For how long the oldest pending task has been waiting; None if nobody knows."""
    memory: int | None
    """About how much the tasks take, from a sample; None unless asked for."""
    timestamp: datetime
    fault: str | None = None
    """What of it cannot be read, with the keys; or why it is not served. None if all is well."""
    unknown: frozenset[str] = frozenset()
    """The names of those numbers that cannot be read, which are 0 here."""


@dataclass(frozen=True)
class DailyStats:
    """What a queue processed on one day, in UTC. ``processed`` includes ``failed``."""

    queue: str
    date: date
    processed: int
    failed: int


@public
@dataclass(frozen=True)
class TaskInfo:
    """A task as it lies in the store. What there is not is None."""

    id: str
    queue: str
    type: str
    payload: bytes = field(repr=False)
    """Of a call with large arguments without these, which lie beside it."""
    headers: Mapping[str, str] = field(repr=False)
    state: str
    max_retry: int
    retried: int
    error: str | None
    """The text of the last error; of a task that is parked for a certain worker what it needs."""
    last_failed_at: datetime | None
    timeout: float | None
    deadline: datetime | None
    group: str | None
    next_process_at: datetime | None
    """When it is due; for a pending task the time of asking, as it may run at once."""
    retention: float
    """For how long it is kept when it is completed; 0: not at all."""
    completed_at: datetime | None
    result: bytes | None = field(repr=False)
    """As it lies there: signed if it is of a call, and without what is large and lies beside it."""
    is_orphaned: bool
    """It is active, and nobody holds it: its lease is over."""
    attempt: int
    """How often a worker of nbqueue fetched it."""
    lost: int
    """How many of these attempts ended with the death of their process."""
    fault: str | None = None
    """Why it cannot be read, if so: then there is little else to tell of it."""


@dataclass(frozen=True)
class ActiveTask:
    """What a worker was running when it last reported. The payload may be cut short."""

    task_id: str
    type: str
    payload: bytes = field(repr=False)
    queue: str
    started_at: datetime
    deadline: datetime | None


@dataclass(frozen=True)
class ServerInfo:
    """A worker, of nbqueue or in Go, as it last reported."""

    id: str
    host: str
    pid: int
    concurrency: int
    queues: Mapping[str, int]
    """Its queues with their weights."""
    strict_priority: bool
    started_at: datetime
    status: str
    active_tasks: tuple[ActiveTask, ...]


@dataclass(frozen=True)
class SchedulerEntry:
    """A schedule, as whoever keeps it last reported."""

    id: str
    spec: str
    type: str
    payload: bytes = field(repr=False)
    options: tuple[str, ...]
    """The options of its tasks, as Asynq writes them."""
    next_at: datetime | None
    previous_at: datetime | None


@dataclass(frozen=True)
class SchedulerEvent:
    """That a schedule enqueued a task."""

    task_id: str
    enqueued_at: datetime
