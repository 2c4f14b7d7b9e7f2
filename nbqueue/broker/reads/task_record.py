"""Read what the store holds about one task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nbqueue.errors import StoreDamaged
from nbqueue.wire import fields
from nbqueue.wire.attempts import attempts_made, is_last_failure
from nbqueue.wire.decoding import LAST_MS, MOST_ATTEMPTS, text, whole_number
from nbqueue.wire.messages import TaskMessage, read_message


class TaskRecord(NamedTuple):
    """A task in the store."""

    queue: str
    message: TaskMessage
    state: str
    result: bytes | None
    error: bytes | None
    pending_since_ns: int | None
    due_ms: int | None
    attempt: int
    lost: int


class Ending(NamedTuple):
    """The state of a task, and the result or error of one that ended.

    ``error_text`` describes a task that was archived without an exception.
    """

    state: str
    result: bytes = b""
    error: bytes = b""
    error_text: str = ""


RECORD_FIELDS = (
    fields.MSG,
    fields.STATE,
    fields.RESULT,
    fields.ERROR,
    fields.PENDING_SINCE,
    fields.DUE,
    fields.ATTEMPT,
    fields.LOST,
    fields.FAILED,
)


def read_record(queue: str, values: Sequence[bytes | None] | StoreDamaged) -> TaskRecord | None:
    """Return the task with these values of `RECORD_FIELDS`; None if there is none.

    Raises `StoreDamaged` if its message cannot be read.
    """
    if isinstance(values, StoreDamaged):
        raise values
    msg, state, result, error, since, due, attempt, lost, mark = values
    if msg is None or state is None:
        return None
    message, word = read_message(msg), text(state)
    if message is None:
        raise StoreDamaged("its message cannot be read")
    fetched = whole_number(attempt, 0, MOST_ATTEMPTS) or 0
    times_lost = whole_number(lost, 0, MOST_ATTEMPTS) or 0
    return TaskRecord(
        queue,
        message,
        word,
        result,
        error if is_last_failure(message, mark) else None,
        whole_number(since, 0),
        whole_number(due, 0, LAST_MS),
        attempts_made(message, word, fetched, times_lost, mark),
        times_lost,
    )


def first_record(
    task_id: str, queues: Sequence[str], found: Sequence[Sequence[bytes | None] | StoreDamaged]
) -> TaskRecord | None:
    """Return the first task that was ``found`` under its id in ``queues``, or None.

    Raises `StoreDamaged` if there is one, and none can be read.
    """
    damage: StoreDamaged | None = None
    for queue, values in zip(queues, found, strict=True):
        try:
            record = read_record(queue, values)
        except StoreDamaged as error:
            damage = StoreDamaged(f"task {task_id!r} of queue {queue!r} cannot be read: {error}")
            continue
        if record is not None:
            return record
    if damage is not None:
        raise damage
    return None
