"""Make `TaskInfo` from the fields of a task."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from nbqueue.broker.reads.models import TaskInfo
from nbqueue.broker.reads.needed_workers import NeededWorkers
from nbqueue.broker.reads.task_rows import NO_MESSAGE
from nbqueue.clock import from_ms
from nbqueue.wire import decoding, fields
from nbqueue.wire.attempts import attempts_made
from nbqueue.wire.decoding import whole_number
from nbqueue.wire.messages import FAR_TIMEOUT, TaskMessage, read_message

INFO_FIELDS = (
    fields.MSG,
    fields.STATE,
    fields.RESULT,
    fields.DUE,
    fields.ATTEMPT,
    fields.LOST,
    fields.GROUP,
    fields.PENDING_SINCE,
    fields.PARKED,
    fields.FAILED,
)

NO_HASH = "its key holds no hash"


def _moment(seconds: float) -> datetime | None:
    """Return Unix seconds as a datetime; None if there is none.

    There is none for 0, which is Asynq's never, nor for a time out of range.
    """
    return decoding.moment(seconds * 1000) if seconds else None


def info_of(
    queue: str,
    task_id: str,
    values: Sequence[Any],
    score: int | None,
    lease_until: float,
    now_ms: int,
    needs: NeededWorkers,
) -> TaskInfo | None:
    """Return the task with these values of `INFO_FIELDS`; None if there is none.

    ``score`` is its score in the set of its state, ``lease_until`` the end of its lease.
    """
    msg, state, result, due, attempt, lost, group, _, parked, mark = values
    if msg is None or state is None:
        return None
    message = read_message(msg)
    if message is None:
        return damaged_info(queue, task_id, decoding.text(state), NO_MESSAGE)
    word, times_lost = decoding.text(state), whole_number(lost or b"0") or 0
    is_active = state == b"active"
    return TaskInfo(
        id=task_id,
        queue=queue,
        type=message.type,
        payload=message.payload,
        headers=dict(message.headers),
        state=word,
        max_retry=message.retry,
        retried=message.retried,
        error=needs.text(queue, word, parked) or message.error_msg or None,
        last_failed_at=_moment(message.last_failed_at),
        timeout=_timeout(message),
        deadline=_moment(message.deadline),
        group=decoding.text(group) if group else message.group_key or None,
        next_process_at=_next_at(state, score, whole_number(due or b"-1"), now_ms),
        retention=float(message.retention),
        completed_at=_moment(message.completed_at),
        result=result,
        is_orphaned=is_active and lease_until * 1000 <= now_ms,
        attempt=attempts_made(message, word, whole_number(attempt or b"0") or 0, times_lost, mark),
        lost=times_lost,
    )


def damaged_info(queue: str, task_id: str, state: str, fault: str) -> TaskInfo:
    """Return the info of a task that cannot be read."""
    none: dict[str, None] = dict.fromkeys(
        ("error", "last_failed_at", "timeout", "deadline", "group", "next_process_at",
         "completed_at", "result")
    )  # fmt: skip
    return TaskInfo(
        id=task_id, queue=queue, type="", payload=b"", headers={}, state=state, max_retry=0,
        retried=0, retention=0.0, is_orphaned=False, attempt=0, lost=0, fault=fault, **none,
    )  # fmt: skip


def _timeout(message: TaskMessage) -> float | None:
    return float(message.timeout) if 0 < message.timeout < FAR_TIMEOUT else None


def _next_at(state: bytes, score: int | None, due: int | None, now_ms: int) -> datetime | None:
    if state == b"pending":
        return from_ms(now_ms)
    if state not in (b"scheduled", b"retry") or score is None:
        return None
    # The exact time fits the score, unless a program in Go has moved the task.
    if due is not None and -(-due // 1000) == score:
        return decoding.moment(due)
    return _moment(score)
