"""A task as a table shows it, made of what the store tells in a listing.

Whatever any program wrote there, it is read: what makes no sense counts as unknown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nbqueue.broker.command import decoded_number
from nbqueue.wire import fields, states
from nbqueue.wire.ids import made_ms
from nbqueue.wire.messages import TaskMessage, read_message

ALL_FIELDS = (
    fields.PENDING_SINCE,
    fields.LEASE,
    fields.DUE,
    fields.ATTEMPT,
    fields.NAME,
    fields.PROGRESS,
)
FIELDS = {
    states.SCHEDULED: (fields.DUE, fields.NAME),
    states.AGGREGATING: (fields.NAME,),
    states.PENDING: (fields.PENDING_SINCE, fields.ATTEMPT, fields.NAME),
    states.COMPLETED: (fields.ATTEMPT, fields.NAME),
    states.ARCHIVED: (fields.ATTEMPT, fields.NAME, fields.PROGRESS),
}
"""What is read of a task in a state beside its message; everything where nothing stands here."""


@dataclass(slots=True)
class TaskRow:
    """A task as a table shows it. Times are Unix milliseconds; what nobody knows is None."""

    task_id: str
    queue: str
    state: str
    message: TaskMessage = field(repr=False)
    """Without its payload, unless that was wanted."""
    is_call: bool = False
    attempt: int = 0
    enqueued_ms: int | None = None
    pending_ms: int | None = None
    process_ms: int | None = None
    started_ms: int | None = None
    finished_ms: int | None = None
    waited_ms: int | None = None
    worker: str | None = None
    name: str | None = None
    progress: float | None = None
    result: bytes | None = field(default=None, repr=False)
    error: bytes | None = field(default=None, repr=False)

    @property
    def touched_ms(self) -> int:
        """When something last happened to it, as far as anybody knows."""
        failed_ms = self.message.last_failed_at * 1000
        known = (self.enqueued_ms, self.pending_ms, self.started_ms, self.finished_ms, failed_ms)
        return max(each or 0 for each in known)


def rows_of(
    queue: str,
    names: Sequence[str],
    reply: list[Any],
    now_ms: int,
    with_result: bool = False,
    with_error: bool = False,
) -> list[TaskRow]:
    width = 1 + with_result + with_error
    rows = []
    for at in range(1, len(reply), width):
        row = _row(queue, names, reply[at], now_ms)
        if row is None:
            continue
        if with_result:
            row.result = reply[at + 1]
        if with_error:
            row.error = reply[at + width - 1]
        rows.append(row)
    return rows


_ATTEMPT_NAMES = [b"started_at", b"finished_at", b"waited", b"worker"]


def note_attempt(row: TaskRow, pairs: list[bytes]) -> None:
    if pairs[6:14:2] == _ATTEMPT_NAMES:  # as every version so far writes them; reading is faster
        started, finished, waited, worker = pairs[7:15:2]
    else:
        values = dict(zip(pairs[::2], pairs[1::2], strict=True))
        started, finished, waited, worker = (values.get(name, b"") for name in _ATTEMPT_NAMES)
    row.started_ms = _number(started)
    row.finished_ms = _number(finished) or row.finished_ms
    row.waited_ms = _number(waited)
    row.worker = worker.decode("utf-8", "replace") or None


def _number(value: bytes | None) -> int | None:
    """A number as some program wrote it; None for none, and for what makes no sense."""
    return decoded_number(value) if value else None


def _row(queue: str, names: Sequence[str], told: bytes, now_ms: int) -> TaskRow | None:
    task_id, score, state, is_call, *values = told.split(b"\0", 4 + len(names))
    message = read_message(values[-1])
    if message is None:
        return None
    found = dict(zip(names, values, strict=False))
    text = task_id.decode("utf-8", "replace")
    name = found.get(fields.NAME)
    row = TaskRow(
        text, queue, state.decode("utf-8", "replace"), message, is_call == b"1",
        _number(found.get(fields.ATTEMPT)) or 0, made_ms(text, now_ms),
        name=name.decode("utf-8", "replace") if name else None,
    )  # fmt: skip
    _note_place(row, score, found)
    return row


def _note_place(row: TaskRow, score: bytes, found: dict[str, bytes]) -> None:
    """Note what the state of a task, and its place there, say of its times."""
    message, state = row.message, row.state
    if state == states.COMPLETED:
        row.finished_ms = message.completed_at * 1000 or None
    elif state == states.PENDING:
        since_ns = _number(found.get(fields.PENDING_SINCE))
        row.pending_ms = None if since_ns is None else since_ns // 1_000_000
        if row.enqueued_ms is None and row.attempt == 0 and message.retried == 0:
            row.enqueued_ms = row.pending_ms
    elif state == states.ACTIVE:
        _note_lease(row, score, found.get(fields.LEASE))
    elif state in (states.SCHEDULED, states.RETRY):
        row.process_ms = _due_ms(found.get(fields.DUE), score)
        row.finished_ms = message.last_failed_at * 1000 or None
    elif state == states.ARCHIVED and score:
        row.finished_ms = int(_score(score) * 1000)
    progress = found.get(fields.PROGRESS)
    if progress:
        row.progress = _fraction(progress)


def _score(score: bytes) -> float:
    try:
        return float(score)
    except ValueError:
        return 0.0


def _due_ms(due: bytes | None, score: bytes) -> int | None:
    """The exact time if it is of this score; a program in Go may have moved the task since."""
    if not score:
        return None
    exact = _number(due)
    if exact is not None and -(-exact // 1000) == int(_score(score)):
        return exact
    return int(_score(score) * 1000)


def _note_lease(row: TaskRow, score: bytes, lease: bytes | None) -> None:
    """Who fetched an active task, and when. A whole score says that a program in Go did, and that
    what stands in the task is of an earlier attempt."""
    if not lease or b"." not in score:
        return
    token, _, since = lease.decode("utf-8", "replace").rpartition("|")
    words = token.split(":")
    if len(words) < 5 or not words[-2].isdigit():
        return
    row.worker = ":".join(words[:-2])
    row.started_ms = int(words[-2])
    since_ns = _number(since.encode())
    if since_ns:
        row.waited_ms = max(0, row.started_ms - since_ns // 1_000_000)


def _fraction(progress: bytes) -> float | None:
    """How far a task says that it is, from 0 to 1: by the outermost of its bars."""
    try:
        told = json.loads(progress)
        bars = told.get("bars") if isinstance(told, dict) else None
        bar = bars[0] if isinstance(bars, list) and bars else told
        return min(1.0, max(0.0, float(bar["n"]) / float(bar["total"])))
    except (ValueError, TypeError, KeyError, ZeroDivisionError):
        return None
