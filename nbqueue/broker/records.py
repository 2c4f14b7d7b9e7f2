"""What a client reads of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nbqueue.wire import fields
from nbqueue.wire.attempts import attempts_made, is_last_failure
from nbqueue.wire.messages import TaskMessage


class TaskRecord(NamedTuple):
    """What the store holds of a task."""

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
    """The state of a task, and of one that ended what came of it. ``error_text`` is what is known
    of one that was archived without an exception."""

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


def read_record(queue: str, values: Sequence[bytes | None]) -> TaskRecord | None:
    """What these values of `RECORD_FIELDS` say; None if there is no such task."""
    msg, state, result, error, since, due, attempt, lost, mark = values
    if msg is None or state is None:
        return None
    message, word = TaskMessage.FromString(msg), state.decode()
    times_lost = int(lost or 0)
    return TaskRecord(
        queue,
        message,
        word,
        result,
        error if is_last_failure(message, mark) else None,
        int(since) if since else None,
        int(due) if due else None,
        attempts_made(message, word, int(attempt or 0), times_lost, mark),
        times_lost,
    )
