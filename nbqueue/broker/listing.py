"""Reading many tasks in slices, for tables: little of each, and the filters run in the store.

Whatever was asked for, a slice occupies the store for a millisecond or two, and payloads and
results stay there unless they are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from nbqueue.broker.broker import Broker
from nbqueue.broker.command import Arg, Command, check_limit, command
from nbqueue.broker.task_rows import ALL_FIELDS, FIELDS, TaskRow, note_attempt, rows_of
from nbqueue.wire import states
from nbqueue.wire.keys import QueueKeys, queue_keys

P = TypeVar("P")
R = TypeVar("R")

SLICE = 150
"""Tasks in one call: few enough that other clients of the store notice nothing."""

_ATTEMPTS_SLICE = 300
_SLACK_MS = 5_000
_ROUNDED_MS = 999
"""Much is known in whole seconds only, rounded down."""

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
            and (self.since_ms is None or row.touched_ms + _ROUNDED_MS >= self.since_ms)
        )

    @property
    def is_all(self) -> bool:
        return not (self.types or self.error or self.names) and self.since_ms is None

    def has_type(self, name: str) -> bool:
        return not self.types or any(
            name == each or (each.endswith("*") and name.startswith(each[:-1]))
            for each in self.types
        )


def list_tasks(
    queue: str,
    place: str,
    start: int,
    wanted: Wanted,
    *,
    names: Sequence[str] = ALL_FIELDS,
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
        [keys.task_prefix, *wanted.arguments(ALL_FIELDS), *task_ids],
        list,
    )


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
                rows += filter(wanted.chooses, self._rows(queue, ALL_FIELDS, reply, wanted))
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
        names, is_all = FIELDS.get(state, ALL_FIELDS), wanted.is_all

        def read(start: int) -> list[Any]:
            return self._broker.run(list_tasks(queue, place, start, wanted, names=names))

        def following(start: int, reply: list[Any]) -> int | None:
            return start + SLICE if reply[0] == SLICE else None

        for reply in _read_ahead(read, 0, following):
            rows = self._rows(queue, names, reply, wanted)
            for row in rows:
                if is_all or wanted.chooses(row):
                    yield row
            if rows and self._is_past(state, rows[-1], wanted):
                return

    def _is_past(self, state: str, row: TaskRow, wanted: Wanted) -> bool:
        """Whether all that follows this task was archived too long ago to be wanted."""
        if state != states.ARCHIVED or wanted.since_ms is None:
            return False
        return (row.finished_ms or 0) + _ROUNDED_MS < wanted.since_ms

    def _rows(
        self, queue: str, names: Sequence[str], reply: list[Any], wanted: Wanted
    ) -> list[TaskRow]:
        now_ms = self._broker.clock.now_ms()
        return rows_of(queue, names, reply, now_ms, wanted.with_result, wanted.with_error)

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
                    note_attempt(row, pairs)
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
