"""Make a table of tasks from the reply of a listing; see ``lua/lib/task_row.lua``.

Any program may have written the values: one that cannot be read counts as unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbqueue.broker.reads.task_table import TaskTable
from nbqueue.wire import fields, states
from nbqueue.wire.attempts import attempts_made, is_last_failure
from nbqueue.wire.decoding import (
    LAST_MS,
    MOST_ATTEMPTS,
    json_value,
    score,
    shortened,
    text,
    time_ms,
    whole_number,
)
from nbqueue.wire.ids import made_times
from nbqueue.wire.messages import TaskMessage, read_message, read_messages

ALL_FIELDS = (
    fields.PENDING_SINCE,
    fields.LEASE,
    fields.DUE,
    fields.ATTEMPT,
    fields.NAME,
    fields.PROGRESS,
    fields.PARKED,
    fields.FAILED,
)
FIELDS = {
    states.SCHEDULED: (fields.DUE, fields.NAME, fields.PARKED),
    states.AGGREGATING: (fields.NAME,),
    states.PENDING: (fields.PENDING_SINCE, fields.ATTEMPT, fields.NAME, fields.FAILED),
    states.COMPLETED: (fields.ATTEMPT, fields.NAME),
    states.ARCHIVED: (fields.ATTEMPT, fields.NAME, fields.PROGRESS, fields.FAILED),
}
"""Fields to read of tasks by state, besides the message.

For other states these are `ALL_FIELDS`.
"""

_ID, _SCORE, _STATE, _CALL, _MSG, _RESULT, _ERROR = "id", "score", "state", "call", "msg", "r", "e"
_FAULT = "fault"
_BEFORE_FIELDS = 4

NO_MESSAGE = "its message cannot be read"

_NUMBERS = {
    fields.ATTEMPT: MOST_ATTEMPTS,
    fields.PENDING_SINCE: LAST_MS * 1_000_000,
    fields.DUE: LAST_MS,
}
"""Fields that hold a number, each with its maximum."""

_SCORED = frozenset({states.SCHEDULED, states.RETRY, states.COMPLETED, states.ARCHIVED})

_Columns = Mapping[str, list[Any] | bytes]
"""Columns by name.

Bytes in place of a list are the value of all tasks.
"""


def table_of(
    queue: str,
    names: Sequence[str],
    reply: Sequence[Any],
    now_ms: int,
    with_result: bool = False,
    with_error: bool = False,
) -> TaskTable:
    """Return the table of a slice. ``names``: the fields that were requested."""
    rest = [_RESULT] * with_result + [_ERROR] * with_error
    columns = dict(zip((_ID, _SCORE, _STATE, _CALL, *names, _MSG, *rest), reply[2:], strict=True))
    return _by_state(queue, columns, now_ms) if reply[1] else TaskTable()


def without(
    reply: list[Any], rules_out: Callable[[bytes], bool], names: Sequence[str]
) -> list[Any]:
    """Return the reply of a listing without the tasks whose encoded message is ruled out."""
    msgs = reply[2 + _BEFORE_FIELDS + len(names)] if reply[1] else ()
    kept = [i for i, msg in enumerate(msgs) if not rules_out(msg)]
    columns = (
        column if isinstance(column, bytes) else [column[i] for i in kept] for column in reply[2:]
    )
    return [reply[0], len(kept), *columns]


def _by_state(queue: str, columns: _Columns, now_ms: int) -> TaskTable:
    msgs: list[bytes] = list(columns[_MSG])  # type: ignore[arg-type]
    messages = read_messages(msgs)
    faults: list[str | None] = [None] * len(msgs)
    if messages is None:
        # Some program wrote what is no message.
        each_read = [read_message(msg) for msg in msgs]
        messages = [message or TaskMessage() for message in each_read]
        faults = [None if message is not None else NO_MESSAGE for message in each_read]
    columns = {**columns, _MSG: messages, _FAULT: faults}
    state = columns[_STATE]
    if isinstance(state, bytes):
        return _Slice(queue, state.decode("utf-8", "replace"), columns, now_ms).table()
    table = TaskTable()
    for each in dict.fromkeys(state):
        part = _taken(columns, [i for i, other in enumerate(state) if other == each])
        table.extend(_Slice(queue, each.decode("utf-8", "replace"), part, now_ms).table())
    return table


def _taken(columns: _Columns, positions: Sequence[int]) -> dict[str, list[Any] | bytes]:
    return {
        name: column if isinstance(column, bytes) else [column[i] for i in positions]
        for name, column in columns.items()
    }


class _Slice:
    """Columns of tasks that are all in one state."""

    def __init__(self, queue: str, state: str, columns: _Columns, now_ms: int) -> None:
        self._queue, self._state, self._columns = queue, state, columns
        self._messages: list[TaskMessage] = list(columns[_MSG])  # type: ignore[arg-type]
        self._count = len(self._messages)
        self._now_ms = now_ms

    def table(self) -> TaskTable:
        count, nothing, messages = self._count, self._nothing, self._messages
        ids = [each.decode("utf-8", "replace") for each in self._columns[_ID]]  # type: ignore[union-attr]
        table = TaskTable(nothing() for _ in range(len(TaskTable.__slots__)))
        table.task_id, table.message = ids, messages
        table.queue, table.state = [self._queue] * count, [self._state] * count
        table.call = self._list(_CALL)
        table.fault = list(self._columns[_FAULT])  # type: ignore[arg-type]
        marks = self._list(fields.FAILED)
        table.fetched = [each or 0 for each in self._numbers(fields.ATTEMPT, MOST_ATTEMPTS)]
        table.attempt = [
            attempts_made(message, self._state, fetched, mark=mark)
            for message, fetched, mark in zip(messages, table.fetched, marks, strict=True)
        ]
        table.enqueued_ms = made_times(ids, self._now_ms)
        if self._has(fields.NAME):
            names = self._list(fields.NAME)
            table.name = [each.decode("utf-8", "replace") if each else None for each in names]
        if self._has(fields.PROGRESS):
            texts = self._list(fields.PROGRESS)
            table.progress = [_fraction(each) if each else None for each in texts]
        if _RESULT in self._columns:
            table.result = self._list(_RESULT)
        if _ERROR in self._columns:
            errors = self._list(_ERROR)
            table.error = [
                error if error and is_last_failure(message, mark) else None
                for message, error, mark in zip(messages, errors, marks, strict=True)
            ]
        self._note_place(table)
        self._note_faults(table)
        return table

    def _note_faults(self, table: TaskTable) -> None:
        """Note fields whose values are out of range.

        Mostly that takes one look at each column.
        """
        for name, most in _NUMBERS.items():
            if not self._has(name):
                continue
            known = self._numbers(name, most)
            if None not in known:
                continue
            for i, raw in enumerate(self._list(name)):
                if raw and known[i] is None:
                    table.fault[i] = table.fault[i] or f"{name} is {shortened(text(raw), 40)}"
        if self._state in _SCORED and self._has(_SCORE):
            for i, raw in enumerate(self._list(_SCORE)):
                if raw and score(raw) is None:
                    table.fault[i] = table.fault[i] or f"its score is {text(raw)}"
        for i, message in enumerate(self._messages):
            times = message.completed_at, message.last_failed_at, message.deadline
            if not 0 <= min(times) <= max(times) <= LAST_MS // 1000:
                table.fault[i] = table.fault[i] or "its message has a time that cannot be"

    def _nothing(self) -> list[Any]:
        return [None] * self._count

    def _has(self, name: str) -> bool:
        return bool(self._columns.get(name))

    def _list(self, name: str) -> list[Any]:
        column = self._columns.get(name, b"")
        return [column] * self._count if isinstance(column, bytes) else column

    def _numbers(self, name: str, most: int) -> list[int | None]:
        column = self._columns.get(name, b"")
        if isinstance(column, bytes):
            return [whole_number(column, 0, most)] * self._count
        return [whole_number(each, 0, most) for each in column]

    def _note_place(self, table: TaskTable) -> None:
        """Note the times that follow from the tasks' state and their scores."""
        state, messages = self._state, self._messages
        if state == states.COMPLETED:
            table.finished_ms = [_seconds(message.completed_at) for message in messages]
        elif state == states.PENDING:
            self._note_line(table)
        elif state == states.ACTIVE:
            places = zip(self._list(_SCORE), self._list(fields.LEASE), strict=True)
            for i, (until, lease) in enumerate(places):
                _note_lease(table, i, until, lease)
        elif state in (states.SCHEDULED, states.RETRY):
            if self._has(fields.PARKED):
                table.parked = [each or None for each in self._list(fields.PARKED)]
            due, scores = self._list(fields.DUE), self._list(_SCORE)
            table.process_ms = [_due_ms(*each) for each in zip(due, scores, strict=True)]
            table.finished_ms = [_seconds(message.last_failed_at) for message in messages]
        elif state == states.ARCHIVED:
            scores = self._list(_SCORE)
            table.finished_ms = [time_ms(each, 1000) for each in scores]

    def _note_line(self, table: TaskTable) -> None:
        since = self._numbers(fields.PENDING_SINCE, LAST_MS * 1_000_000)
        table.pending_ms = [None if each is None else each // 1_000_000 for each in since]
        if None not in table.enqueued_ms:
            return
        for i, message in enumerate(self._messages):
            if table.enqueued_ms[i] is None and table.attempt[i] == 0 and message.retried == 0:
                table.enqueued_ms[i] = table.pending_ms[i]


_ATTEMPT_NAMES = [b"started_at", b"finished_at", b"waited", b"worker"]


def note_attempt(table: TaskTable, i: int, pairs: list[bytes]) -> None:
    """Note an entry of the attempts in the task's row at position ``i``."""
    if pairs[6:14:2] == _ATTEMPT_NAMES:  # the order of all versions so far, read faster
        started, finished, waited, worker = pairs[7:15:2]
    else:
        values = dict(zip(pairs[::2], pairs[1::2], strict=True))
        started, finished, waited, worker = (values.get(name, b"") for name in _ATTEMPT_NAMES)
    table.started_ms[i] = _number(started)
    table.finished_ms[i] = _number(finished) or table.finished_ms[i]
    table.waited_ms[i] = _number(waited)
    table.worker[i] = worker.decode("utf-8", "replace") or None


def _number(value: bytes | None) -> int | None:
    """Read a time or a duration that any program wrote.

    None if it is out of range.
    """
    return whole_number(value, 0, LAST_MS)


def _seconds(value: int) -> int | None:
    """Return a time of a message as Unix ms; None for 0, meaning never."""
    return whole_number(value * 1000, 1, LAST_MS)


def _due_ms(due: bytes, place: bytes) -> int | None:
    """Return the exact due time if it fits the score, else the score's time.

    A program in Go may have moved the task.
    """
    exact, rounded = _number(due), time_ms(place, 1000)
    if exact is not None and rounded is not None and -(-exact // 1000) == rounded // 1000:
        return exact
    return rounded


def _note_lease(table: TaskTable, i: int, until: bytes, lease: bytes) -> None:
    """Note which worker fetched an active task, and when.

    A lease that ends at a whole second is that of a program in Go; the fields of the task are then
    those of an earlier attempt.
    """
    if not lease or b"." not in until:
        return
    token, _, since = lease.decode("utf-8", "replace").rpartition("|")
    words = token.split(":")
    started_ms = _number(words[-2].encode()) if len(words) >= 5 else None
    if started_ms is None:
        return
    table.worker[i] = ":".join(words[:-2])
    table.started_ms[i] = started_ms
    since_ns = whole_number(since, 0)
    if since_ns:
        table.waited_ms[i] = max(0, started_ms - since_ns // 1_000_000)


def _fraction(progress: bytes) -> float | None:
    """Return the progress of a task by its outermost bar, from 0 to 1."""
    try:
        found = json_value(progress)
        bars = found.get("bars") if isinstance(found, dict) else None
        bar = bars[0] if isinstance(bars, list) and bars else found
        return min(1.0, max(0.0, float(bar["n"]) / float(bar["total"])))
    except (ValueError, TypeError, KeyError, ArithmeticError):
        return None
