"""Tasks, queues, workers and schedules as frames, each with columns and dtypes that never vary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from nbqueue.broker.task_rows import TaskRow
from nbqueue.errors import UsageError
from nbqueue.views.columns import (
    category,
    fractions,
    instants,
    objects,
    ordered_category,
    spans,
    texts,
    whole,
)
from nbqueue.views.frames import OUTCOMES
from nbqueue.wire import states

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
)

ON_DEMAND: Final = ("payload", "arguments", "headers", "retention", "result", "exception")
"""Columns of tasks that are there only when asked for: they cost reading, or unpickling."""

ATTEMPT_COLUMNS: Final = frozenset({"started_at", "finished_at", "waited", "duration", "worker"})
"""Columns of tasks that the attempts stream tells."""

Load = Callable[[TaskRow], Any]


def chosen_columns(columns: Sequence[Any] | str | None) -> tuple[str, ...]:
    """The names of the columns of a frame of tasks that was asked for like this.

    ``...`` stands for the usual ones. Raises `UsageError` for one that there is not.
    """
    if columns is None:
        return TASK_COLUMNS
    names: list[str] = []
    for each in [columns] if isinstance(columns, str) else columns:
        names += TASK_COLUMNS if each is ... else [each]
    for name in names:
        if name not in TASK_COLUMNS and name not in ON_DEMAND:
            known = ", ".join((*TASK_COLUMNS, *ON_DEMAND))
            raise UsageError(f"columns: there is no {name!r}; there are {known}")
    return tuple(dict.fromkeys(names))


def tasks(
    rows: Sequence[TaskRow],
    *,
    as_of_ms: int,
    columns: Sequence[str] = TASK_COLUMNS,
    loaders: Mapping[str, Load] | None = None,
) -> pd.DataFrame:
    """Return tasks as a frame: a row each, indexed by ``task_id``, the first enqueued first.

    ``loaders`` make the values of columns that need a signing key. The schema is that of
    ``docs/frames.md``, also for no rows at all.
    """
    import pandas as pd

    ordered = sorted(rows, key=_order)
    make = _Columns(ordered, as_of_ms, loaders or {})
    frame: pd.DataFrame = pd.DataFrame(
        {name: make(name) for name in columns},
        columns=list(columns),
        index=pd.Index([row.task_id for row in ordered], dtype="string", name="task_id"),
    )
    return frame


def _order(row: TaskRow) -> tuple[int, str]:
    return row.enqueued_ms or row.pending_ms or row.started_ms or row.finished_ms or 0, row.task_id


class _Columns:
    """Makes each column of a frame of tasks."""

    def __init__(self, rows: list[TaskRow], as_of_ms: int, loaders: Mapping[str, Load]) -> None:
        self._rows = rows
        self._as_of_ms = as_of_ms
        self._loaders = loaders

    def __call__(self, name: str) -> Any:
        load = self._loaders.get(name)
        if load is not None:
            return objects([load(row) for row in self._rows])
        return getattr(self, "_" + name)()

    def _type(self) -> Any:
        return category([row.message.type for row in self._rows])

    def _name(self) -> Any:
        return texts([row.name for row in self._rows])

    def _queue(self) -> Any:
        return category([row.queue for row in self._rows])

    def _state(self) -> Any:
        return ordered_category([row.state for row in self._rows], states.ALL)

    def _attempt(self) -> Any:
        # A program in Go counts only its retries.
        return whole(
            [row.attempt or row.message.retried + (row.state not in _UNBEGUN) for row in self._rows]
        )

    def _max_retry(self) -> Any:
        return whole([row.message.retry for row in self._rows])

    def _enqueued_at(self) -> Any:
        return instants([row.enqueued_ms for row in self._rows])

    def _process_at(self) -> Any:
        return instants([row.process_ms for row in self._rows])

    def _started_at(self) -> Any:
        return instants([row.started_ms for row in self._rows])

    def _finished_at(self) -> Any:
        return instants([row.finished_ms for row in self._rows])

    def _waited(self) -> Any:
        return spans([self._waited_ms(row) for row in self._rows])

    def _waited_ms(self, row: TaskRow) -> int | None:
        if row.state == states.PENDING and row.pending_ms is not None:
            return max(0, self._as_of_ms - row.pending_ms)
        return row.waited_ms

    def _duration(self) -> Any:
        return spans([self._duration_ms(row) for row in self._rows])

    def _duration_ms(self, row: TaskRow) -> int | None:
        if row.started_ms is None:
            return None
        ended = self._as_of_ms if row.state == states.ACTIVE else row.finished_ms
        return None if ended is None else max(0, ended - row.started_ms)

    def _worker(self) -> Any:
        return category([row.worker for row in self._rows])

    def _progress(self) -> Any:
        return fractions([row.progress for row in self._rows])

    def _error(self) -> Any:
        return texts([row.message.error_msg or None for row in self._rows])

    def _payload(self) -> Any:
        return objects([row.message.payload for row in self._rows])

    def _headers(self) -> Any:
        return objects([dict(row.message.headers) for row in self._rows])

    def _retention(self) -> Any:
        return spans([row.message.retention * 1000 for row in self._rows])


_UNBEGUN: Final = frozenset({states.WAITING, states.SCHEDULED, states.AGGREGATING, states.PENDING})

_ENDINGS: Final = {
    states.COMPLETED: "completed",
    states.RETRY: "retry",
    states.ARCHIVED: "archived",
}


def as_attempts(frame: pd.DataFrame) -> pd.DataFrame:
    """The last attempts of a frame of tasks, as far as they ended, for a picture of them.

    Raises `UsageError` if it lacks the columns that are needed.
    """
    missing = {"state", "started_at", "finished_at", "worker"} - set(frame.columns)
    if missing:
        raise UsageError(f"this frame has no column {', '.join(sorted(missing))}")
    ended: pd.DataFrame = frame[frame["state"].isin(list(_ENDINGS))].reset_index()
    outcomes = [_ENDINGS[state] for state in ended["state"]]
    ended["outcome"] = ordered_category(outcomes, OUTCOMES)
    return ended
