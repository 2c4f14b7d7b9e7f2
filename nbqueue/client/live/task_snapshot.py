"""`Snapshot`: a task at one moment, as its card shows it."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Any, NamedTuple

from nbqueue.broker.reads.needed_workers import NeededWorkers
from nbqueue.broker.reads.task_attempts import attempts_of
from nbqueue.errors import StoreError
from nbqueue.views.format import due as due_in_words
from nbqueue.wire import fields, states
from nbqueue.wire.attempts import attempts_made
from nbqueue.wire.decoding import (
    LAST_MS,
    MOST_ATTEMPTS,
    json_object,
    text,
    time_ms,
    whole_number,
)
from nbqueue.wire.keys import stored_keys
from nbqueue.wire.messages import read_message

if TYPE_CHECKING:
    from nbqueue.client.session import Session

_FIELDS = (
    fields.MSG,
    fields.STATE,
    fields.PENDING_SINCE,
    fields.LEASE,
    fields.ATTEMPT,
    fields.DUE,
    fields.LOST,
    fields.FAILED,
    "nbq:progress",
    fields.PARKED,
)


_ABOUT_MS = 2_000


class Snapshot(NamedTuple):
    """A task at one moment. Times are Unix milliseconds, None if unknown or still to come."""

    state: str
    attempt: int
    max_retry: int
    retried: int
    pending_ms: int | None
    due_ms: int | None
    started_ms: int | None
    finished_ms: int | None
    worker: str
    error: str
    progress: dict[str, Any]


def read_snapshot(session: Session, queue: str, task_id: str) -> Snapshot | None:
    """Read a task from the store; None if it is missing. Raises `StoreUnreachable`."""
    [values] = session.broker.call(("HMGET", stored_keys(queue).task(task_id), *_FIELDS), on=queue)
    msg, state, since, lease, attempt, due, lost, mark, progress, parked = values
    message = read_message(msg) if msg else None
    if message is None or state is None:
        return None
    worker, started_ms = _lease_parts(text(lease or b""))
    word = text(state)
    has_begun = word in (states.ACTIVE, states.COMPLETED, states.ARCHIVED, states.RETRY)
    ended_s = {states.COMPLETED: message.completed_at, states.ARCHIVED: message.last_failed_at}
    finished_ms = whole_number(ended_s.get(word, 0) * 1000, 1, LAST_MS)
    if finished_ms is not None:
        # Asynq's fields have whole seconds; the record of the attempt is exact.
        exact = _last_attempt(session, queue, task_id, finished_ms)
        started_ms, finished_ms = exact or (started_ms, finished_ms)
    return Snapshot(
        word,
        attempts_made(
            message,
            word,
            whole_number(attempt, 0, MOST_ATTEMPTS) or 0,
            whole_number(lost, 0, MOST_ATTEMPTS) or 0,
            mark,
        ),
        message.retry,
        message.retried,
        (whole_number(since, 0, LAST_MS * 1_000_000) or 0) // 1_000_000 or None,
        _number(due) if word in (states.SCHEDULED, states.RETRY) else None,
        started_ms if has_begun else None,
        finished_ms,
        worker if has_begun else "",
        NeededWorkers(session.broker).text(queue, word, parked) or message.error_msg,
        _progress(progress),
    )


def due_text(session: Session, queue: str, task_id: str) -> str:
    """Return when a task is due, in words; "" if that is not known now."""
    try:
        [due] = session.broker.call(
            ("HGET", stored_keys(queue).task(task_id), fields.DUE), on=queue
        )
    except StoreError:
        return ""
    due_ms = _number(due)
    return "" if due_ms is None else f"due {due_in_words(due_ms, session.clock.now_ms())}"


def _last_attempt(
    session: Session, queue: str, task_id: str, about_ms: int
) -> tuple[int, int] | None:
    """Return when the attempt that ended in this second began and ended, if it is recorded."""
    for row in attempts_of(
        session.broker, queue, {task_id}, newest_ms=about_ms, oldest_ms=about_ms
    ):
        began, ended = time_ms(row.get("started_at")), time_ms(row.get("finished_at"))
        return (began, ended) if began is not None and ended is not None else None
    return None


def last_end_ms(session: Session, queue: str, task_ids: Container[str], about_ms: int) -> int:
    """Return the exact end of the last attempt of tasks that ended about then, if it is recorded.

    Else ``about_ms``. Times are Unix milliseconds. Raises `StoreUnreachable`.
    """
    for row in attempts_of(
        session.broker, queue, task_ids, newest_ms=about_ms, oldest_ms=about_ms - _ABOUT_MS
    ):
        return time_ms(row.get("finished_at")) or about_ms
    return about_ms


def _lease_parts(lease: str) -> tuple[str, int | None]:
    """Return the worker that fetched a task, and when; a token is ``<worker>:<ms>:<number>``."""
    holder, _, fetched_ms = lease.partition("|")[0].rpartition(":")[0].rpartition(":")
    started_ms = whole_number(fetched_ms, 0, LAST_MS)
    return (holder, started_ms) if started_ms is not None else ("", None)


def _number(value: bytes | None) -> int | None:
    return whole_number(value, 0, LAST_MS)


def _progress(value: bytes | None) -> dict[str, Any]:
    if not value:
        return {}
    try:
        return json_object(value)
    except ValueError:
        return {}
