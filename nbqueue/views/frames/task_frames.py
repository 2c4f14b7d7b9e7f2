"""Frames of tasks, with fixed columns and dtypes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from nbqueue.broker.reads.task_table import TaskRow, TaskTable
from nbqueue.errors import UsageError
from nbqueue.views.frames.attempt_frames import OUTCOMES
from nbqueue.views.frames.columns import (
    MISSING,
    category,
    chosen_names,
    fractions,
    in_seconds,
    instants,
    milliseconds,
    name_dicts,
    objects,
    ordered_category,
    spans,
    texts,
    whole,
)
from nbqueue.wire import states
from nbqueue.wire.decoding import whole_number

if TYPE_CHECKING:
    import pandas as pd

TASK_COLUMNS: Final = (
    "type",
    "name",
    "queue",
    "state",
    "attempt",
    "max_retry",
    "enqueued_at",
    "process_at",
    "started_at",
    "finished_at",
    "waited",
    "duration",
    "worker",
    "progress",
    "error",
    "fault",
)

DEFAULT_COLUMNS: Final = ("type", "queue", "state", "attempt", "duration", "error")
"""The columns that fit a screen, with the error in sight."""

ON_DEMAND: Final = ("payload", "arguments", "headers", "retention", "result", "exception")
"""Columns that have to be asked for: they cost reading, or unpickling."""

ATTEMPT_COLUMNS: Final = frozenset({"started_at", "finished_at", "waited", "duration", "worker"})
"""Columns that are read from the attempts stream."""

Load = Callable[[TaskRow], Any]


def chosen_columns(columns: Sequence[Any] | str | None) -> tuple[str, ...]:
    """Return the names of the columns for the argument ``columns`` of `Client.tasks`.

    Raises `UsageError` for an unknown name.
    """
    return chosen_names(columns, DEFAULT_COLUMNS, TASK_COLUMNS, ON_DEMAND)


def tasks(
    table: TaskTable,
    *,
    as_of_ms: int,
    columns: Sequence[str] = TASK_COLUMNS,
    loaders: Mapping[str, Load] | None = None,
    more: Mapping[str, Any] | None = None,
    seconds: bool = False,
) -> pd.DataFrame:
    """Return tasks as a frame with a row each, in their order, indexed by ``task_id``.

    ``loaders`` make the values of columns that need a signing key; ``more`` are further columns;
    with ``seconds`` durations are numbers of seconds. The schema is in ``docs/frames.md``, and
    holds for a frame without rows.
    """
    import pandas as pd

    make = _Columns(table, as_of_ms, loaders or {})
    frame: pd.DataFrame = pd.DataFrame(
        {**{name: make(name) for name in columns}, **(more or {})},
        columns=[*columns, *(more or ())],
        index=pd.Index(texts(table.task_id), name="task_id", copy=False),
    )
    return in_seconds(frame) if seconds else frame


def ordered(table: TaskTable) -> TaskTable:
    """Return the tasks in the order of their enqueuing, and by id within a millisecond."""
    known = (table.enqueued_ms, table.pending_ms, table.started_ms, table.finished_ms)
    times = [a or b or c or d or 0 for a, b, c, d in zip(*known, strict=True)]
    order = sorted(range(len(table)), key=table.task_id.__getitem__)
    order.sort(key=times.__getitem__)
    return table.take(order)


class _Columns:
    """Makes each column of a frame of tasks."""

    def __init__(self, table: TaskTable, as_of_ms: int, loaders: Mapping[str, Load]) -> None:
        self._table = table
        self._as_of_ms = as_of_ms
        self._loaders = loaders

    def __call__(self, name: str) -> Any:
        load = self._loaders.get(name)
        if load is not None:
            return objects(list(map(load, self._table)))
        return getattr(self, "_" + name)()

    def _type(self) -> Any:
        return category([message.type for message in self._table.message])

    def _name(self) -> Any:
        return texts(self._table.name)

    def _queue(self) -> Any:
        return category(self._table.queue)

    def _state(self) -> Any:
        return ordered_category(self._table.state, states.ALL)

    def _attempt(self) -> Any:
        # A program in Go counts only its retries.
        table = self._table
        each = zip(table.attempt, table.message, table.state, strict=True)
        return whole(
            [
                attempt or message.retried + (state not in _UNBEGUN)
                for attempt, message, state in each
            ]
        )

    def _max_retry(self) -> Any:
        return whole([message.retry for message in self._table.message])

    def _enqueued_at(self) -> Any:
        return instants(self._table.enqueued_ms)

    def _process_at(self) -> Any:
        return instants(self._table.process_ms)

    def _started_at(self) -> Any:
        return instants(self._table.started_ms)

    def _finished_at(self) -> Any:
        return instants(self._table.finished_ms)

    def _waited(self) -> Any:
        # Pending tasks have waited until the time of reading.
        waited, since = milliseconds(self._table.waited_ms), milliseconds(self._table.pending_ms)
        waits = self._are(states.PENDING) & (since != MISSING)
        waited[waits] = (self._as_of_ms - since[waits]).clip(0)
        return spans(waited)

    def _duration(self) -> Any:
        began, ended = milliseconds(self._table.started_ms), milliseconds(self._table.finished_ms)
        ended[self._are(states.ACTIVE)] = self._as_of_ms
        spent = (ended - began).clip(0)
        spent[(began == MISSING) | (ended == MISSING)] = MISSING
        return spans(spent)

    def _are(self, state: str) -> Any:
        """Return a mask of the tasks in this state."""
        import numpy as np

        return np.array([each == state for each in self._table.state], dtype=bool)

    def _worker(self) -> Any:
        return category(self._table.worker)

    def _progress(self) -> Any:
        return fractions(self._table.progress)

    def _error(self) -> Any:
        return texts([message.error_msg or None for message in self._table.message])

    def _fault(self) -> Any:
        return texts(self._table.fault)

    def _payload(self) -> Any:
        return objects([message.payload for message in self._table.message])

    def _headers(self) -> Any:
        return name_dicts([message.headers for message in self._table.message])

    def _retention(self) -> Any:
        return spans([whole_number(message.retention * 1000) for message in self._table.message])


_UNBEGUN: Final = frozenset({states.WAITING, states.SCHEDULED, states.AGGREGATING, states.PENDING})

_ENDINGS: Final = {
    states.COMPLETED: "completed",
    states.RETRY: "retry",
    states.ARCHIVED: "archived",
}


def as_attempts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the last, ended attempts of a frame of tasks, for plots.

    Raises `UsageError` if the frame lacks a column.
    """
    missing = {"state", "started_at", "finished_at", "worker"} - set(frame.columns)
    if missing:
        raise UsageError(f"this frame has no column {', '.join(sorted(missing))}")
    ended: pd.DataFrame = frame[frame["state"].isin(list(_ENDINGS))].reset_index()
    outcomes = [_ENDINGS[state] for state in ended["state"]]
    ended["outcome"] = ordered_category(outcomes, OUTCOMES)
    return ended
