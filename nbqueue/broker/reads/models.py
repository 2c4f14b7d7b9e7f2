"""Queues, tasks, workers and schedules as they are in the store.

Times are datetimes in UTC, durations seconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from nbqueue.moved_modules import pickled_as

_cards: dict[type, Callable[[Any], str]] = {}


def register_card(kind: type, draw: Callable[[Any], str]) -> None:
    """Let notebooks show instances of ``kind`` as the HTML that ``draw`` returns."""
    _cards[kind] = draw


class HasCard:
    """Base class of models that a notebook shows as a card; see `register_card`."""

    def _repr_html_(self) -> str | None:
        draw = _cards.get(type(self))
        return None if draw is None else str(draw(self))


@pickled_as("nbqueue.broker.infos")
@dataclass(frozen=True)
class QueueInfo(HasCard):
    """A queue as a whole at one moment."""

    queue: str
    size: int
    """Number of tasks in any state."""
    groups: int
    """Number of aggregation groups with tasks."""
    pending: int
    active: int
    scheduled: int
    retry: int
    archived: int
    completed: int
    aggregating: int
    """Tasks in aggregation groups, those that are just being aggregated included."""
    processed: int
    """Attempts that ended today (UTC), failed ones included."""
    failed: int
    processed_total: int
    failed_total: int
    trimmed: int
    """Number of tasks that were ever dropped from a full archive."""
    paused: bool
    latency: float | None
    """Seconds for which the oldest pending task has waited; None if unknown."""
    memory: int | None
    """Estimated memory of the tasks in bytes, from a sample; None unless requested."""
    timestamp: datetime
    fault: str | None = None
    """Keys that cannot be read, or why nbqueue does not serve the queue.

    None if all is well.
    """
    unknown: frozenset[str] = frozenset()
    """Names of the numbers that cannot be read and are 0 here."""


@pickled_as("nbqueue.broker.infos")
@dataclass(frozen=True)
class DailyStats:
    """Tasks of a queue processed on one day in UTC. ``processed`` includes ``failed``."""

    queue: str
    date: date
    processed: int
    failed: int


@dataclass(frozen=True)
class TaskGroupRow:
    """A task group, with the numbers of its tasks. Times are Unix milliseconds."""

    id: str
    name: str | None
    type: str
    """The name of the function."""
    queue: str
    total: int
    done: int
    """Tasks that have ended in any state, also if they are no longer in the store."""
    failed: int
    cancelled: int
    started_ms: int
    by: str
    is_complete: bool
    """False while the map runs, and if it was cut off."""
    is_estimated: bool
    """True if the numbers are from a sample of the tasks."""


@pickled_as("nbqueue.broker.infos")
@dataclass(frozen=True)
class TaskInfo(HasCard):
    """A task as it is in the store. Missing values are None."""

    id: str
    queue: str
    type: str
    payload: bytes = field(repr=False)
    """The payload without large arguments, which are stored separately."""
    headers: Mapping[str, str] = field(repr=False)
    state: str
    max_retry: int
    retried: int
    error: str | None
    """The last error; for a task parked for a worker, what it needs."""
    last_failed_at: datetime | None
    timeout: float | None
    deadline: datetime | None
    group: str | None
    next_process_at: datetime | None
    """Due time; for a pending task the time of reading.

    A pending task may run at once.
    """
    retention: float
    """Seconds for which it is kept once completed; 0: it is deleted."""
    completed_at: datetime | None
    result: bytes | None = field(repr=False)
    """The stored result, without large values stored separately.

    It is signed if the task is a call.
    """
    is_orphaned: bool
    """True if it is active and its expired lease leaves it without a worker."""
    attempt: int
    """Number of times that workers of nbqueue fetched it."""
    lost: int
    """Number of attempts that ended because their process died."""
    fault: str | None = None
    """Reason why it cannot be read; most other values are then missing."""


@pickled_as("nbqueue.broker.infos")
@dataclass(frozen=True)
class ActiveTask:
    """A task that a worker was running at its last report.

    The payload may be truncated.
    """

    task_id: str
    type: str
    payload: bytes = field(repr=False)
    queue: str
    started_at: datetime
    deadline: datetime | None


@pickled_as("nbqueue.broker.infos")
@dataclass(frozen=True)
class ServerInfo(HasCard):
    """A worker, of nbqueue or in Go, at its last report."""

    id: str
    host: str
    pid: int
    concurrency: int
    queues: Mapping[str, int]
    """Weights by queue."""
    strict_priority: bool
    started_at: datetime
    status: str
    active_tasks: tuple[ActiveTask, ...]


@pickled_as("nbqueue.broker.infos")
@dataclass(frozen=True)
class SchedulerEntry:
    """A schedule at the last report of the scheduler that keeps it."""

    id: str
    spec: str
    type: str
    payload: bytes = field(repr=False)
    options: tuple[str, ...]
    """Options of its tasks in Asynq's notation."""
    next_at: datetime | None
    previous_at: datetime | None


@pickled_as("nbqueue.broker.infos")
@dataclass(frozen=True)
class SchedulerEvent:
    """A task that a schedule enqueued."""

    task_id: str
    enqueued_at: datetime
