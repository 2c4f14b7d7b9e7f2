"""Tables of tasks, by columns. Times are Unix milliseconds, unknown values None."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from operator import itemgetter
from typing import Any, NamedTuple

from nbqueue.calls import payloads
from nbqueue.wire.messages import TaskMessage


@dataclass(slots=True)
class TaskRow:
    """One task of a table."""

    task_id: str
    queue: str
    state: str
    message: TaskMessage = field(repr=False)
    """The message, without a large payload unless that was requested."""
    call: bytes = b""
    """``1`` if the payload that was left out is a call's, else ``0``."""
    attempt: int = 0
    fetched: int = 0
    """Number of times that workers of nbqueue fetched it.

    ``attempt`` counts programs in Go as well.
    """
    enqueued_ms: int | None = None
    pending_ms: int | None = None
    process_ms: int | None = None
    started_ms: int | None = None
    finished_ms: int | None = None
    waited_ms: int | None = None
    worker: str | None = None
    name: str | None = None
    progress: float | None = None
    parked: bytes | None = field(default=None, repr=False)
    """The reason why it is parked, see `nbqueue.wire.fields.PARKED`."""
    result: bytes | None = field(default=None, repr=False)
    error: bytes | None = field(default=None, repr=False)
    fault: str | None = None
    """Reason why parts of it cannot be read."""

    @property
    def is_call(self) -> bool:
        return self.call == b"1" if self.call else payloads.is_call(self.message.payload)

    @property
    def touched_ms(self) -> int:
        """The latest known time at which something happened to it."""
        failed_ms = self.message.last_failed_at * 1000
        known = (self.enqueued_ms, self.pending_ms, self.started_ms, self.finished_ms, failed_ms)
        return max(each or 0 for each in known)


class MessageFacts(NamedTuple):
    """Parts of a message for the usual columns.

    Tasks with equal parts share one object.
    """

    type: str
    retry: int
    retried: int
    error_msg: str
    last_failed_at: int
    completed_at: int


_NAMES = tuple(each.name for each in fields(TaskRow))


class TaskTable:
    """Many tasks: a list for each field of `TaskRow`."""

    __slots__ = _NAMES

    task_id: list[str]
    queue: list[str]
    state: list[str]
    message: list[TaskMessage]
    call: list[bytes]
    attempt: list[int]
    fetched: list[int]
    enqueued_ms: list[int | None]
    pending_ms: list[int | None]
    process_ms: list[int | None]
    started_ms: list[int | None]
    finished_ms: list[int | None]
    waited_ms: list[int | None]
    worker: list[str | None]
    name: list[str | None]
    progress: list[float | None]
    parked: list[bytes | None]
    result: list[bytes | None]
    error: list[bytes | None]
    fault: list[str | None]

    def __init__(self, columns: Iterable[list[Any]] | None = None) -> None:
        for name, column in zip(_NAMES, columns or ([] for _ in _NAMES), strict=True):
            setattr(self, name, column)

    @classmethod
    def of(cls, rows: Iterable[TaskRow]) -> TaskTable:
        found = list(rows)
        return cls([getattr(row, name) for row in found] for name in _NAMES)

    def columns(self) -> list[list[Any]]:
        return [getattr(self, name) for name in _NAMES]

    def shed_messages(self, known: dict[MessageFacts, MessageFacts]) -> None:
        """Reduce messages to the parts that the usual columns need.

        Messages take most of the memory of a large table.

        ``known`` are facts to share.
        """
        shed: list[Any] = []
        for each in self.message:
            facts = MessageFacts(
                each.type, each.retry, each.retried, each.error_msg, each.last_failed_at,
                each.completed_at,
            )  # fmt: skip
            shed.append(known.setdefault(facts, facts))
        self.message = shed

    def set_error(self, position: int, text: str) -> None:
        """Replace the last error of a task."""
        message: Any = self.message[position]
        if isinstance(message, MessageFacts):
            self.message[position] = message._replace(error_msg=text)  # type: ignore[call-overload]
        else:
            message.error_msg = text

    def extend(self, other: TaskTable) -> None:
        for column, more in zip(self.columns(), other.columns(), strict=True):
            column.extend(more)

    def take(self, positions: Sequence[int]) -> TaskTable:
        """Return the tasks at these positions, in this order."""
        if len(positions) < 2:
            return TaskTable([column[i] for i in positions] for column in self.columns())
        pick = itemgetter(*positions)
        return TaskTable(list(pick(column)) for column in self.columns())

    def newest_of_each(self) -> TaskTable:
        """Return each task once, in its last version."""
        if len(set(self.task_id)) == len(self):
            return self
        last = {key: i for i, key in enumerate(zip(self.queue, self.task_id, strict=True))}
        return self.take(list(last.values()))

    def __len__(self) -> int:
        return len(self.task_id)

    def __iter__(self) -> Iterator[TaskRow]:
        return map(TaskRow, *self.columns())
