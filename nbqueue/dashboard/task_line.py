"""`TaskLine`: a task in a list, from a row of a scan or from what is known of one task."""

from __future__ import annotations

from typing import Final, NamedTuple

from nbqueue.broker.reads.models import TaskInfo
from nbqueue.broker.reads.task_table import TaskRow
from nbqueue.clock import to_ms
from nbqueue.dashboard.tables.task_key import task_key
from nbqueue.wire import states
from nbqueue.wire.ids import made_ms

TIME_TITLES: Final = {
    states.PENDING: "enqueued",
    states.ACTIVE: "enqueued",
    states.SCHEDULED: "due",
    states.RETRY: "due",
    states.ARCHIVED: "failed at",
    states.COMPLETED: "completed at",
    states.AGGREGATING: "enqueued",
}
"""The meaning of a task's time, by its state."""


class TaskLine(NamedTuple):
    """A task in a list. ``time_ms`` is the time of its state; see `TIME_TITLES`."""

    key: str
    id: str
    queue: str
    state: str
    type: str
    attempt: int
    """The number of the last attempt; 0 if there was none."""
    time_ms: int | None
    error: str
    """The last error, or why the task cannot be read; or ""."""
    call: str = ""
    """The call as Python would write it, or ""; only tasks of the shown page have it."""


def line_of_row(row: TaskRow) -> TaskLine:
    """Return a task of a scan."""
    message = row.message
    times = {
        states.SCHEDULED: row.process_ms,
        states.RETRY: row.process_ms,
        states.ARCHIVED: row.finished_ms,
        states.COMPLETED: row.finished_ms,
    }
    return TaskLine(
        key=task_key(row.queue, row.task_id),
        id=row.task_id,
        queue=row.queue,
        state=row.state,
        type=message.type,
        attempt=row.attempt,
        time_ms=times.get(row.state, row.enqueued_ms),
        error=row.fault or message.error_msg or "",
    )


def line_of_info(task: TaskInfo, now_ms: int, before: TaskLine | None = None) -> TaskLine:
    """Return a task as it is now.

    The time of ``before``, an earlier line of the task, stands for one that the task does not have.
    """
    moments = {
        states.SCHEDULED: task.next_process_at,
        states.RETRY: task.next_process_at,
        states.ARCHIVED: task.last_failed_at,
        states.COMPLETED: task.completed_at,
    }
    moment = moments.get(task.state)
    time_ms = None if moment is None else to_ms(moment)
    if task.state not in moments:
        time_ms = made_ms(task.id, now_ms)
    if time_ms is None and before is not None and before.state == task.state:
        time_ms = before.time_ms
    return TaskLine(
        key=task_key(task.queue, task.id),
        id=task.id,
        queue=task.queue,
        state=task.state,
        type=task.type,
        attempt=task.attempt,
        time_ms=time_ms,
        error=task.fault or task.error or "",
    )
