"""Reading many tasks in slices, for tables: little of each, and the filters run in the store.

Whatever was asked for, a slice occupies the store for a millisecond or two, and payloads and
results stay there unless they are wanted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nbqueue.broker.broker import Broker
from nbqueue.broker.command import Arg, Command, check_limit, command, decoded_number
from nbqueue.wire import fields, states
from nbqueue.wire.keys import LISTENER_LENGTH, QueueKeys, queue_keys
from nbqueue.wire.messages import TaskMessage, read_message

P = TypeVar("P")
R = TypeVar("R")

SLICE = 150
"""Tasks in one call: few enough that other clients of the store notice nothing."""

_ATTEMPTS_SLICE = 300
_ID_LENGTH = 27
_SLACK_MS = 5_000

LISTED = (
    states.SCHEDULED,
    states.AGGREGATING,
    states.PENDING,
    states.ACTIVE,
    states.RETRY,
    states.COMPLETED,
    states.ARCHIVED,
)
"""In the order of a task's life: what moves on during a reading is met twice, and not missed."""


_ALL_FIELDS = (
    fields.PENDING_SINCE,
    fields.LEASE,
    fields.DUE,
    fields.ATTEMPT,
    fields.NAME,
    fields.PROGRESS,
)
_FIELDS = {
    states.SCHEDULED: (fields.DUE, fields.NAME),
    states.AGGREGATING: (fields.NAME,),
    states.PENDING: (fields.PENDING_SINCE, fields.ATTEMPT, fields.NAME),
    states.COMPLETED: (fields.ATTEMPT, fields.NAME),
    states.ARCHIVED: (fields.ATTEMPT, fields.NAME, fields.PROGRESS),
}
"""What is read of a task in a state beside its message; everything where nothing stands here."""


@dataclass(frozen=True)
class Wanted:
    """Which tasks a reading is about, and how much of each."""

    types: tuple[str, ...] = ()
    """Names of types; an asterisk at the end of one stands for anything. None: all."""
    error: str = ""
    """What the text of the last error must contain."""
    since_ms: int | None = None
    """Something must have happened to it since then."""
    names: frozenset[str] = frozenset()
    with_payload: bool = False
    with_result: bool = False
    with_error: bool = False
    with_attempts: bool = True
    """Whether the last attempt is looked up: when it began and ended, and who ran it."""

    def arguments(self, names: Sequence[str]) -> list[Arg]:
        return [
            " ".join(names),
            "\0".join(self.types),
            self.error,
            int(self.with_payload),
            int(self.with_result),
            int(self.with_error),
        ]

    def chooses(self, row: TaskRow) -> bool:
        """Whether it is about this task, as far as its last attempt has no say in it."""
        return (
            self.has_type(row.message.type)
            and self.error in row.message.error_msg
            and (not self.names or row.name in self.names)
            and (self.since_ms is None or row.touched_ms >= self.since_ms)
        )

    @property
    def is_all(self) -> bool:
        return not (self.types or self.error or self.names) and self.since_ms is None

    def has_type(self, name: str) -> bool:
        return not self.types or any(
            name == each or (each.endswith("*") and name.startswith(each[:-1]))
            for each in self.types
        )


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


def list_tasks(
    queue: str,
    place: str,
    start: int,
    wanted: Wanted,
    *,
    names: Sequence[str] = _ALL_FIELDS,
    limit: int = SLICE,
) -> Command[list[Any]]:
    """Read tasks that lie at ``place``, the newest first, from the position ``start`` on.

    Reads as what the script returns: making rows of it is for another thread than the one that
    waits for the store.
    """
    check_limit(limit)
    keys = queue_keys(queue)
    return command(
        "list_tasks",
        (place, keys.lease),
        [keys.task_prefix, start, limit, *wanted.arguments(names)],
        list,
    )


def read_tasks(queue: str, task_ids: Sequence[str], wanted: Wanted) -> Command[list[Any]]:
    """Read tasks by their ids."""
    keys = queue_keys(queue)
    places = [keys.lease, keys.scheduled, keys.retry, keys.archived, keys.completed]
    return command(
        "read_tasks",
        [*places, *(keys.task(task_id) for task_id in task_ids)],
        [keys.task_prefix, *wanted.arguments(_ALL_FIELDS), *task_ids],
        list,
    )


def _rows(queue: str, names: Sequence[str], wanted: Wanted, reply: list[Any]) -> list[TaskRow]:
    width = 1 + wanted.with_result + wanted.with_error
    rows = []
    for at in range(1, len(reply), width):
        row = _row(queue, names, reply[at])
        if row is None:
            continue
        if wanted.with_result:
            row.result = reply[at + 1]
        if wanted.with_error:
            row.error = reply[at + width - 1]
        rows.append(row)
    return rows


class Listing:
    """Reads the tasks of queues through a `Broker`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def tasks(
        self, queues: Sequence[str], wanted: Wanted, in_states: Sequence[str], limit: int | None
    ) -> list[TaskRow]:
        """Tasks that lie in these queues, each once; in each state, the newest ``limit`` at most.

        What moves while it is read is shown as it was met last.
        """
        found: dict[tuple[str, str], TaskRow] = {}
        for state in (each for each in LISTED if each in in_states):
            for queue in queues:
                left = limit
                for place in self._places(queue, state):
                    for row in self._at(queue, place, state, wanted):
                        if left is not None and left <= 0:
                            break
                        found[queue, row.task_id] = row
                        left = left if left is None else left - 1
        return self._complete(list(found.values()), wanted)

    def by_ids(
        self, queues: Sequence[str], task_ids: Sequence[tuple[str, str | None]], wanted: Wanted
    ) -> list[TaskRow]:
        """Tasks with these ids, each from its queue, or from whichever of ``queues`` has it."""
        rows: list[TaskRow] = []
        for queue in queues:
            ids = [task_id for task_id, home in task_ids if home is None or home == queue]
            for start in range(0, len(ids), SLICE):
                part = ids[start : start + SLICE]
                reply = self._broker.run(read_tasks(queue, part, wanted))
                rows += filter(wanted.chooses, _rows(queue, _ALL_FIELDS, wanted, reply))
        return self._complete(rows, wanted)

    def _places(self, queue: str, state: str) -> Iterator[str]:
        keys = queue_keys(queue)
        if state != states.AGGREGATING:
            yield keys.by_state(state)
            return
        cursor: Any = 0
        while True:
            [(cursor, names)] = self._broker.call(("SSCAN", keys.groups, cursor, "COUNT", SLICE))
            yield from (keys.group(name.decode("utf-8", "replace")) for name in names)
            if int(cursor) == 0:
                break
        [names] = self._broker.call(("ZRANGE", keys.aggregation_sets, 0, -1))
        yield from (name.decode("utf-8", "replace") for name in names)

    def _at(self, queue: str, place: str, state: str, wanted: Wanted) -> Iterator[TaskRow]:
        names, is_all = _FIELDS.get(state, _ALL_FIELDS), wanted.is_all

        def read(start: int) -> list[Any]:
            return self._broker.run(list_tasks(queue, place, start, wanted, names=names))

        def following(start: int, reply: list[Any]) -> int | None:
            return start + SLICE if reply[0] == SLICE else None

        for reply in _read_ahead(read, 0, following):
            rows = _rows(queue, names, wanted, reply)
            for row in rows:
                if is_all or wanted.chooses(row):
                    yield row
            if rows and self._is_past(state, rows[-1], wanted):
                return

    def _is_past(self, state: str, row: TaskRow, wanted: Wanted) -> bool:
        """Whether all that follows this task was archived too long ago to be wanted."""
        if state != states.ARCHIVED or wanted.since_ms is None:
            return False
        return (row.finished_ms or 0) < wanted.since_ms

    # --- Last attempts ---------------------------------------------------------------------------

    def _complete(self, rows: list[TaskRow], wanted: Wanted) -> list[TaskRow]:
        """Note in each task what its last attempt says, where one of nbqueue's workers ran it."""
        if not wanted.with_attempts:
            return rows
        by_queue: dict[str, dict[bytes, TaskRow]] = {}
        for row in rows:
            if row.attempt and row.state in (states.RETRY, states.COMPLETED, states.ARCHIVED):
                by_queue.setdefault(row.queue, {})[row.task_id.encode()] = row
        for queue, missing in by_queue.items():
            self._read_attempts(queue_keys(queue), missing)
        return rows

    def _read_attempts(self, keys: QueueKeys, missing: dict[bytes, TaskRow]) -> None:
        oldest = max(0, min(map(_attempt_after, missing.values())) - _SLACK_MS)
        newest = max(row.finished_ms or 2**53 for row in missing.values()) + _SLACK_MS

        def read(last: str) -> Any:
            [entries] = self._broker.call(
                ("XREVRANGE", keys.attempts, last, oldest, "COUNT", _ATTEMPTS_SLICE)
            )
            return entries

        def following(last: str, entries: Any) -> str | None:
            if len(entries) < _ATTEMPTS_SLICE:
                return None
            return "(" + str(entries[-1][0].decode())

        for entries in _read_ahead(read, str(newest), following):
            for _, pairs in entries:
                row = missing.pop(pairs[1], None) if pairs[0] == b"task_id" else None
                if row is not None:
                    _note_attempt(row, pairs)
            if not missing:
                return


def _read_ahead(
    read: Callable[[P], R], first: P, following: Callable[[P, R], P | None]
) -> Iterator[R]:
    """What ``read`` reads at ``first``, and then at each position that is ``following``: while the
    caller is busy with one slice, the next one is on its way."""
    with ThreadPoolExecutor(1, "nbqueue-reading") as thread:
        position: P | None = first
        future = thread.submit(read, first)
        while position is not None:
            found = future.result()
            position = following(position, found)
            if position is not None:
                future = thread.submit(read, position)
            yield found


def _attempt_after(row: TaskRow) -> int:
    # One that was archived by hand may have had its last attempt long before.
    ended = None if row.state == states.ARCHIVED else row.finished_ms
    return ended or row.enqueued_ms or 0


_ATTEMPT_NAMES = [b"started_at", b"finished_at", b"waited", b"worker"]


def _note_attempt(row: TaskRow, pairs: list[bytes]) -> None:
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


def _row(queue: str, names: Sequence[str], told: bytes) -> TaskRow | None:
    task_id, score, state, is_call, *values = told.split(b"\0", 4 + len(names))
    message = read_message(values[-1])
    if message is None:
        return None
    found = dict(zip(names, values, strict=False))
    text = task_id.decode("utf-8", "replace")
    name = found.get(fields.NAME)
    row = TaskRow(
        text, queue, state.decode("utf-8", "replace"), message, is_call == b"1",
        _number(found.get(fields.ATTEMPT)) or 0, enqueued_ms(text),
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


def enqueued_ms(task_id: str) -> int | None:
    """When a task was enqueued, as an id made by one of our clients says; None for other ids."""
    if len(task_id) != _ID_LENGTH:
        return None
    try:
        int(task_id, 16)
        return int(task_id[LISTENER_LENGTH : LISTENER_LENGTH + 11], 16)
    except ValueError:
        return None


def _fraction(progress: bytes) -> float | None:
    """How far a task says that it is, from 0 to 1: by the outermost of its bars."""
    try:
        told = json.loads(progress)
        bars = told.get("bars") if isinstance(told, dict) else None
        bar = bars[0] if isinstance(bars, list) and bars else told
        return min(1.0, max(0.0, float(bar["n"]) / float(bar["total"])))
    except (ValueError, TypeError, KeyError, ZeroDivisionError):
        return None
