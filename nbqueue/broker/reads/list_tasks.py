"""Read many tasks in slices, for tables. Filters run in the store.

A slice takes the store a millisecond or two. Payloads and results are not read unless requested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nbqueue.broker.broker import Broker
from nbqueue.broker.read_ahead import Ask, read_ahead
from nbqueue.broker.reads.key_faults import DENIED, NOT_SERVED, queue_faults
from nbqueue.broker.reads.needed_workers import NeededWorkers
from nbqueue.broker.reads.slices import QUEUES_AT_ONCE, in_slices
from nbqueue.broker.reads.task_rows import ALL_FIELDS, FIELDS, note_attempt, table_of, without
from nbqueue.broker.reads.task_table import MessageFacts, TaskRow, TaskTable
from nbqueue.broker.script_commands import PerTask, check_limit, command
from nbqueue.errors import StoreDamaged
from nbqueue.names import fits_pattern
from nbqueue.store.refusal_errors import KeyDenied
from nbqueue.transport.script_call import Arg, Command
from nbqueue.transport.topology import Place
from nbqueue.wire import states
from nbqueue.wire.keys import stored_keys, stored_name

SLICE = 250
"""Maximum number of tasks in one script.

Few enough not to delay other clients of the store.
"""

_FEW_QUEUES = 3
"""Maximum number of queues that are read at once.

Of more queues, the empty ones are found and left out first.
"""

_ATTEMPTS_SLICE = 300
_SLACK_MS = 5_000
_ROUNDED_MS = 999
"""Rounding of times in milliseconds: many are whole seconds, rounded down."""

LISTED = (
    states.SCHEDULED,
    states.AGGREGATING,
    states.PENDING,
    states.ACTIVE,
    states.RETRY,
    states.COMPLETED,
    states.ARCHIVED,
)
"""States in the order of a task's life.

A task that moves meanwhile is read twice rather than missed.
"""


@dataclass(frozen=True)
class Wanted:
    """Selection of the tasks to read, and of their parts."""

    types: tuple[str, ...] = ()
    """Names of types, with asterisks as wildcards; empty for all."""
    error: str = ""
    """Text that the last error must contain."""
    since_ms: int | None = None
    """Time in Unix ms; only tasks to which something happened since then."""
    names: frozenset[str] = frozenset()
    rules_out: Callable[[bytes], bool] | None = None
    """A quick filter of encoded messages, before they are read; needs ``with_payload``."""
    chooses_row: Callable[[TaskRow], bool] | None = None
    """A filter that runs here, slice by slice, after the others."""
    with_payload: bool = False
    with_result: bool = False
    with_error: bool = False
    with_message: bool = True
    """True to keep whole messages rather than the parts that the usual columns need."""
    with_attempts: bool = True
    """True to read the last attempt, with its times and its worker."""

    @property
    def is_selective(self) -> bool:
        """True if it excludes any tasks."""
        return bool(self.types or self.error or self.names or self.chooses_row) or (
            self.since_ms is not None
        )

    @property
    def is_narrow(self) -> bool:
        """True if it excludes any tasks by more than their names."""
        return replace(self, names=frozenset()).is_selective

    def arguments(self, names: Sequence[str]) -> dict[str, Arg]:
        return {
            "fields": " ".join(names),
            "types": "\0".join(self.types),
            "error_part": self.error,
            "want_payload": int(self.with_payload),
            "want_result": int(self.with_result),
            "want_error": int(self.with_error),
        }

    def chosen(self, table: TaskTable) -> TaskTable:
        """Return the tasks of ``table`` that are wanted."""
        if not self.is_selective:
            return table
        return table.take([i for i, row in enumerate(table) if self.chooses(row)])

    def chooses(self, row: TaskRow) -> bool:
        """Return whether this task is wanted, before its last attempt is known."""
        return (
            self.has_type(row.message.type)
            and self.error in row.message.error_msg
            and (not self.names or row.name in self.names)
            and (self.since_ms is None or row.touched_ms + _ROUNDED_MS >= self.since_ms)
            and (self.chooses_row is None or self.chooses_row(row))
        )

    def has_type(self, name: str) -> bool:
        return not self.types or any(fits_pattern(name, each) for each in self.types)


def list_tasks(
    queue: str,
    place: str,
    start: int,
    wanted: Wanted,
    *,
    names: Sequence[str] = ALL_FIELDS,
    limit: int = SLICE,
) -> Command[list[Any]]:
    """Read the tasks of the key ``place``, newest first, from position ``start``.

    Reads as the reply of the script.
    """
    check_limit(limit)
    keys = stored_keys(queue)
    return command(
        "list_tasks",
        keys,
        {
            "task_prefix": keys.task_prefix,
            "start": start,
            "limit": limit,
            **wanted.arguments(names),
        },
        list,
        other_keys={"place": place},
    )


def read_tasks(queue: str, task_ids: Sequence[str], wanted: Wanted) -> Command[list[Any]]:
    """Read tasks by their ids."""
    keys = stored_keys(queue)
    return command(
        "read_tasks",
        keys,
        {"task_prefix": keys.task_prefix, **wanted.arguments(ALL_FIELDS)},
        list,
        tasks=PerTask(
            [keys.task(task_id) for task_id in task_ids],
            ("id",),
            task_ids,
        ),
    )


class Listing:
    """Reads the tasks of queues through a `Broker`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._facts: dict[MessageFacts, MessageFacts] = {}
        self.faults: dict[str, None] = {}
        """Descriptions of keys that could not be read."""

    def tasks(
        self, queues: Sequence[str], wanted: Wanted, in_states: Sequence[str], limit: int | None
    ) -> TaskTable:
        """Return the tasks of these queues, each once.

        For each state these are the newest ``limit``.

        A task that moves meanwhile is returned as it was read last.
        """
        found = TaskTable()
        for state in (each for each in LISTED if each in in_states):
            for part in in_slices(queues, QUEUES_AT_ONCE):
                self._read_state(part, state, wanted, limit, found)
        return self._complete(found.newest_of_each(), wanted)

    def slices(self, queue: str, state: str, wanted: Wanted) -> Iterator[tuple[int, TaskTable]]:
        """Yield the wanted tasks of a queue in a state, newest first, slice by slice.

        Each slice has the number of tasks that were looked at. Last attempts are not read. Raises
        `StoreDamaged`.
        """
        for place in self._places(queue, state):
            yield from self._at(queue, place, state, wanted, None)

    def count(self, queues: Sequence[str], in_states: Sequence[str]) -> int:
        """Count the tasks of these queues and states, without aggregating ones."""
        total = 0
        places = [state for state in in_states if state != states.AGGREGATING]
        for part in in_slices(queues, QUEUES_AT_ONCE):
            for state in places:
                total += sum(size or 0 for size in self._sizes(part, state))
        return total

    def _sizes(self, queues: Sequence[str], state: str) -> list[int | None]:
        """Return the number of tasks of each queue in a state.

        For aggregating tasks, it is the number of groups.

        None for a key of the wrong type.
        """
        keys = [stored_keys(queue) for queue in queues]
        if state == states.AGGREGATING:
            groups = self._known_sizes((each.queue, ("SCARD", each.groups)) for each in keys)
            sets = self._known_sizes(
                (each.queue, ("ZCARD", each.aggregation_sets)) for each in keys
            )
            return [
                None if count is None or more is None else count + more
                for count, more in zip(groups, sets, strict=True)
            ]
        size = "LLEN" if state in (states.PENDING, states.ACTIVE) else "ZCARD"
        return self._known_sizes((each.queue, (size, each.by_state(state))) for each in keys)

    def _known_sizes(self, calls: Iterable[tuple[Place, Sequence[Arg]]]) -> list[int | None]:
        replies = self._broker.try_call_each(calls)
        return [None if isinstance(reply, StoreDamaged) else reply for reply in replies]

    def _read_state(
        self,
        queues: Sequence[str],
        state: str,
        wanted: Wanted,
        limit: int | None,
        found: TaskTable,
    ) -> None:
        """Add the newest ``limit`` tasks of each of these queues in one state."""
        # The sizes are asked for right before, so that what moves on meanwhile is not missed.
        sizes = self._sizes(queues, state) if len(queues) > _FEW_QUEUES else [None] * len(queues)
        small = [
            queue
            for queue, size in zip(queues, sizes, strict=True)
            if size and size < SLICE and state != states.AGGREGATING
        ]
        firsts = self._first_slices(small, state, wanted)
        for queue, size in zip(queues, sizes, strict=True):
            if size == 0:
                continue
            try:
                self._take(found, queue, state, wanted, limit, firsts.get(queue))
            except StoreDamaged as error:
                self._note_damage(queue, None, error)

    def _take(
        self,
        found: TaskTable,
        queue: str,
        state: str,
        wanted: Wanted,
        left: int | None,
        first: list[Any] | None,
    ) -> None:
        """Add to ``found`` the newest ``left`` tasks of a queue in one state.

        ``first`` is the reply for the first slice, if it was read.
        """
        for place in self._places(queue, state):
            try:
                for _, part in self._at(queue, place, state, wanted, first):
                    chosen = part if left is None else part.take(range(min(left, len(part))))
                    found.extend(chosen)
                    left = None if left is None else left - len(chosen)
                    if left == 0:
                        return
            except StoreDamaged as error:
                self._note_damage(queue, place, error)

    def _note_damage(self, queue: str, place: str | None, error: StoreDamaged) -> None:
        """Note why a key of a queue could not be read.

        Without a key, note all faulty keys of the queue.
        """
        found = [
            f"{fault.key!r} {fault.text}"
            for fault in queue_faults(self._broker, queue)
            if fault.text != NOT_SERVED and place in (None, fault.key)
        ]
        if isinstance(error, KeyDenied):
            found = [f"its keys {DENIED}"]
        for what in found or [str(error)]:
            self.faults[f"queue {queue!r}: {what}"] = None

    def _first_slices(
        self, queues: Sequence[str], state: str, wanted: Wanted
    ) -> dict[str, list[Any]]:
        """Return the first slice of each of these queues that can be read."""
        names = FIELDS.get(state, ALL_FIELDS)
        batch = [
            list_tasks(queue, stored_keys(queue).by_state(state), 0, wanted, names=names)
            for queue in queues
        ]
        replies = self._broker.try_run(batch) if batch else []
        return {
            queue: reply
            for queue, reply in zip(queues, replies, strict=True)
            if not isinstance(reply, StoreDamaged)
        }

    def by_ids(
        self, queues: Sequence[str], task_ids: Sequence[tuple[str, str | None]], wanted: Wanted
    ) -> TaskTable:
        """Return the tasks with these ids, each from its queue.

        A task without a known queue is read from any of ``queues``.
        """
        found = TaskTable()
        for queue in queues:
            ids = [task_id for task_id, home in task_ids if home is None or home == queue]
            for start in range(0, len(ids), SLICE):
                part = ids[start : start + SLICE]
                [reply] = self._broker.try_run([read_tasks(queue, part, wanted)])
                if isinstance(reply, KeyDenied):
                    self._note_damage(queue, None, reply)
                    break
                if isinstance(reply, StoreDamaged):
                    raise reply
                found.extend(wanted.chosen(self._table(queue, ALL_FIELDS, reply, wanted)))
        return self._complete(found, wanted)

    def _places(self, queue: str, state: str) -> Iterator[str]:
        keys = stored_keys(queue)
        if state != states.AGGREGATING:
            yield keys.by_state(state)
            return
        cursor: Any = 0
        while True:
            [(cursor, names)] = self._broker.call(
                ("SSCAN", keys.groups, cursor, "COUNT", SLICE), on=queue
            )
            yield from (keys.group(stored_name(name)) for name in names)
            if int(cursor) == 0:
                break
        [names] = self._broker.call(("ZRANGE", keys.aggregation_sets, 0, -1), on=queue)
        yield from (stored_name(name) for name in names)

    def _at(
        self, queue: str, place: str, state: str, wanted: Wanted, known: list[Any] | None
    ) -> Iterator[tuple[int, TaskTable]]:
        """Yield the wanted tasks of a key by slices, each with the number of tasks looked at.

        ``known`` is the first slice, if it was read already.
        """
        names, start = FIELDS.get(state, ALL_FIELDS), 0
        if known is not None and known[0] < SLICE:
            yield known[0], wanted.chosen(self._table(queue, names, known, wanted))
            return

        def following(reply: list[Any]) -> Command[list[Any]] | None:
            nonlocal start
            start += SLICE
            if reply[0] < SLICE:
                return None
            return list_tasks(queue, place, start, wanted, names=names)

        first = list_tasks(queue, place, start, wanted, names=names)
        for reply in read_ahead(self._broker, queue, first, following):
            table = self._table(queue, names, reply, wanted)
            yield reply[0], wanted.chosen(table)
            if self._is_past(state, table, wanted):
                return

    def _is_past(self, state: str, table: TaskTable, wanted: Wanted) -> bool:
        """Return whether all later tasks were archived too long ago to be wanted."""
        if state != states.ARCHIVED or wanted.since_ms is None or not len(table):
            return False
        return (table.finished_ms[-1] or 0) + _ROUNDED_MS < wanted.since_ms

    def _table(
        self, queue: str, names: Sequence[str], reply: list[Any], wanted: Wanted
    ) -> TaskTable:
        now_ms = self._broker.clock.now_ms()
        if wanted.rules_out is not None:
            reply = without(reply, wanted.rules_out, names)
        table = table_of(queue, names, reply, now_ms, wanted.with_result, wanted.with_error)
        if not wanted.with_message:
            table.shed_messages(self._facts)
        return table

    # --- Last attempts ---------------------------------------------------------------------------

    def _complete(self, table: TaskTable, wanted: Wanted) -> TaskTable:
        """Add the last attempts of tasks that nbqueue's workers ran."""
        by_queue: dict[str, dict[bytes, int]] = {}
        if wanted.with_attempts and any(table.fetched):
            for i, fetched in enumerate(table.fetched):
                if fetched and table.state[i] in _ATTEMPTED:
                    by_queue.setdefault(table.queue[i], {})[table.task_id[i].encode()] = i
        for queue, missing in by_queue.items():
            key = stored_keys(queue).attempts
            try:
                self._read_attempts(queue, key, table, missing)
            except StoreDamaged as error:
                self.faults[f"queue {queue!r}: {key!r}: {error}"] = None
        self._note_needs(table)
        return table

    def _note_needs(self, table: TaskTable) -> None:
        """Set the requirement of tasks that need a certain worker as their last error."""
        needs = NeededWorkers(self._broker)
        for i, parked in enumerate(table.parked):
            text = needs.text(table.queue[i], table.state[i], parked) if parked else ""
            if text:
                table.set_error(i, text)

    def _read_attempts(
        self, queue: str, key: str, table: TaskTable, missing: dict[bytes, int]
    ) -> None:
        oldest = max(0, min(_attempt_after(table, i) for i in missing.values()) - _SLACK_MS)
        newest = max(table.finished_ms[i] or 2**53 for i in missing.values()) + _SLACK_MS

        def ask(last: Any) -> Ask:
            return ("XREVRANGE", key, last, oldest, "COUNT", _ATTEMPTS_SLICE)

        def following(entries: Any) -> Ask | None:
            return ask(b"(" + entries[-1][0]) if len(entries) == _ATTEMPTS_SLICE else None

        for entries in read_ahead(self._broker, queue, ask(newest), following):
            for _, pairs in entries:
                i = missing.pop(pairs[1], None) if pairs[0] == b"task_id" else None
                if i is not None:
                    note_attempt(table, i, pairs)
            if not missing:
                return


_ATTEMPTED = frozenset({states.RETRY, states.COMPLETED, states.ARCHIVED})


def _attempt_after(table: TaskTable, i: int) -> int:
    # One that was archived by hand may have had its last attempt long before.
    ended = None if table.state[i] == states.ARCHIVED else table.finished_ms[i]
    return ended or table.enqueued_ms[i] or 0
