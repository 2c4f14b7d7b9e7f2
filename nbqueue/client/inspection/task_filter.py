"""`TaskFilter` and named tasks: which tasks an action is about; `BulkResult`: its outcome."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from nbqueue.broker.reads.models import TaskInfo
from nbqueue.broker.reads.store_reader import LISTED, SLICE, StoreReader
from nbqueue.clock import to_ms
from nbqueue.durations import Duration, parse_duration
from nbqueue.errors import UsageError
from nbqueue.moved_modules import pickled_as
from nbqueue.names import fits_pattern, known_names, with_restored
from nbqueue.printable import printable, restored, shown
from nbqueue.wire import states

STATES = (*LISTED, states.AGGREGATING)


@pickled_as("nbqueue.client.selection")
@dataclass
class BulkResult:
    """The result of an action on many tasks. Its length counts the changed ones."""

    action: str
    done: list[str] = field(default_factory=list)
    """The ids of the tasks that were changed."""
    refused: dict[str, str] = field(default_factory=dict)
    """The ids of tasks that were left unchanged, each with the reason in words."""
    asked: list[str] = field(default_factory=list)
    """For `Inspector.cancel`: running tasks, whose workers were asked to end them."""
    trimmed: int = 0
    """The number of tasks deleted because the archive was full, or they had expired."""

    def __len__(self) -> int:
        return len(self.done)

    def __bool__(self) -> bool:
        return bool(self.done or self.asked)

    def __repr__(self) -> str:
        parts = [f"{len(self.done)} done"]
        if self.asked:
            parts.append(f"{len(self.asked)} running and asked to end")
        if self.refused:
            by_reason: dict[str, int] = {}
            for reason in self.refused.values():
                by_reason[reason] = by_reason.get(reason, 0) + 1
            reasons = "; ".join(
                f"{number} {_of_many(reason) if number > 1 else reason}"
                for reason, number in by_reason.items()
            )
            parts.append(f"{len(self.refused)} refused ({reasons})")
        if self.trimmed:
            parts.append(f"{self.trimmed} deleted from the full archive")
        return printable(f"<{self.action}: {', '.join(parts)}>")

    def _repr_html_(self) -> str:
        from nbqueue.views.static_cards import bulk_card  # loaded only where it is shown

        return str(bulk_card(self.action, self.done, self.refused, self.asked, self.trimmed))


def _of_many(reason: str) -> str:
    """Put a reason why one task was refused into the plural."""
    for one, many in _PLURALS.items():
        reason = re.sub(rf"\b{one}\b", many, reason)
    return reason


_PLURALS = {
    "^is": "are",
    "^waits": "wait",
    "cancel it": "cancel them",
    "its retry": "their retries",
    "an aggregation group": "aggregation groups",
    "a set that is": "sets that are",
}


@dataclass(frozen=True)
class TaskFilter:
    """Tasks of a queue in one state, by type, error, time and aggregation group."""

    queue: str
    state: str
    type: str | None = None
    error: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    group: str | None = None

    @property
    def needs_task(self) -> bool:
        """True if ids and scores do not decide, so that tasks must be read."""
        return bool(self.type or self.error or self._needs_completion)

    @property
    def _needs_completion(self) -> bool:
        has_time = self.since_ms is not None or self.until_ms is not None
        return has_time and self.state == states.COMPLETED

    def takes_time(self, seconds: float | None) -> bool:
        """Return whether the filter includes a task whose time (Unix seconds) is this."""
        if self.since_ms is None and self.until_ms is None:
            return True
        if seconds is None:
            return False
        return (self.since_ms is None or seconds * 1000 >= self.since_ms) and (
            self.until_ms is None or seconds * 1000 <= self.until_ms
        )

    def takes(self, task: TaskInfo) -> bool:
        """Return whether the filter includes this task, apart from times that are not in it."""
        if task.state != self.state:
            return False
        if self.type is not None and not any(
            fits_pattern(task.type, each) for each in with_restored(self.type)
        ):
            return False
        if self.error is not None and self.error not in (task.error or ""):
            return False
        if self._needs_completion:
            at = task.completed_at
            return self.takes_time(None if at is None else to_ms(at) / 1000)
        return True


def make_filter(
    queue: str | None,
    state: str | None,
    now_ms: int,
    *,
    type: str | None = None,
    error: str | None = None,
    since: Duration | datetime | None = None,
    until: Duration | datetime | None = None,
    group: str | None = None,
) -> TaskFilter:
    """Make a filter of checked values. Durations count back from now. Raises `UsageError`."""
    if queue is None or state is None:
        raise UsageError(
            f"say which tasks: pass ids, or queue= and state= (state is one of {', '.join(STATES)})"
        )
    if state not in STATES:
        raise UsageError(f"state={states.unknown_state(state, STATES)}")
    if (group is None) == (state == states.AGGREGATING):
        raise UsageError(
            f"group={group!r} does not fit state={state!r}: tasks are in aggregation groups "
            f"while they are {states.AGGREGATING}, and in one group each"
        )
    if state == states.ACTIVE and (since is not None or until is not None):
        raise UsageError("since= and until= do not apply to active tasks: q.attempts() has times")
    return TaskFilter(
        queue,
        state,
        type,
        error,
        _moment_ms(since, "since", now_ms),
        _moment_ms(until, "until", now_ms),
        group,
    )


def _moment_ms(value: Duration | datetime | None, what: str, now_ms: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return moment_ms(value, what)
    return now_ms - round(parse_duration(value, what) * 1000)


def moment_ms(value: datetime, what: str) -> int:
    """Convert a datetime to Unix milliseconds. Raises `UsageError` if it has no time zone."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise UsageError(f"{what}={value!r} must be a datetime with a time zone: .astimezone()")
    return to_ms(value.astimezone(timezone.utc))


def listed(reader: StoreReader, chosen: TaskFilter, limit: int | None) -> Iterator[TaskInfo]:
    """Yield the tasks that a filter includes, in the order of their state, read in slices."""
    left = limit
    for part in reader.slices(chosen.queue, chosen.state, chosen.group):
        part = _timely(reader, chosen, part)
        ids, scores = [i for i, _ in part], [score for _, score in part]
        for task in reader.tasks(chosen.queue, ids, scores):
            if left == 0:
                return
            if task is not None and chosen.takes(task):
                left = None if left is None else left - 1
                yield task


def selected_ids(reader: StoreReader, chosen: TaskFilter) -> list[str]:
    """Return the ids of the tasks that a filter includes now."""
    found = reader.snapshot(chosen.queue, chosen.state, chosen.group)
    ids: list[str] = []
    for start in range(0, len(found), SLICE):
        part = _timely(reader, chosen, found[start : start + SLICE])
        names = [i for i, _ in part]
        if chosen.needs_task:
            tasks = reader.tasks(chosen.queue, names, [score for _, score in part])
            names = [task.id for task in tasks if task is not None and chosen.takes(task)]
        ids += names
    return ids


def _timely(
    reader: StoreReader, chosen: TaskFilter, part: Sequence[tuple[str, int | None]]
) -> list[tuple[str, int | None]]:
    """Leave out tasks whose time is not included.

    The time of completed tasks is in the task itself.
    """
    has_time = chosen.since_ms is not None or chosen.until_ms is not None
    if not has_time or not part or chosen.state == states.COMPLETED:
        return list(part)
    times: Sequence[float | None] = [score for _, score in part]
    if chosen.state == states.PENDING:
        times = reader.pending_since(chosen.queue, [task_id for task_id, _ in part])
    return [pair for pair, at in zip(part, times, strict=True) if chosen.takes_time(at)]


def named_ids(selection: Any) -> list[tuple[str, str | None]]:
    """Return the ids of named tasks, each with its queue where that is known.

    ``selection`` is an id, a future, a `TaskInfo`, a group or any iterable of these; or a frame or
    series of pandas with ids in ``task_id`` or in the index. Raises `UsageError` for anything else.
    """
    if hasattr(selection, "iloc"):
        pairs = list(_from_pandas(selection))
    elif hasattr(selection, "futures"):
        pairs = [(task_id, selection.queue) for task_id in selection.ids]
    elif isinstance(selection, str) or hasattr(selection, "queue"):
        pairs = [_one(selection)]
    elif isinstance(selection, Iterable) and not isinstance(selection, bytes | dict):
        pairs = [_one(each) for each in selection]
    else:
        raise UsageError(f"{selection!r} names no task: pass an id, a future, or a list of these")
    return list(dict.fromkeys(pairs))


def is_single(selection: Any) -> bool:
    """Return whether the selection is a single task, so that a refusal is an error."""
    return isinstance(selection, str) or (
        hasattr(selection, "queue") and not hasattr(selection, "iloc")
        and not hasattr(selection, "futures")
    )  # fmt: skip


def _one(each: Any) -> tuple[str, str | None]:
    if isinstance(each, str) and each:
        return each, None
    task_id, queue = getattr(each, "id", None), getattr(each, "queue", None)
    if isinstance(task_id, str) and isinstance(queue, str):
        return task_id, queue
    raise UsageError(f"{each!r} is neither the id of a task nor a future")


def _from_pandas(data: Any) -> Iterator[tuple[str, str | None]]:
    columns = getattr(data, "columns", None)
    if columns is None:
        ids = data if data.name == "task_id" else data.index
        queues: Iterable[Any] = [None] * len(data)
    else:
        ids = data["task_id"] if "task_id" in columns else data.index
        queues = data["queue"] if "queue" in columns else [None] * len(data)
    for task_id, queue in zip(ids, queues, strict=True):
        if not isinstance(task_id, str) or not task_id:
            raise UsageError(
                f"{task_id!r} is not the id of a task: the frame needs ids in a column "
                "'task_id' or in its index"
            )
        # Frames have escapes for control characters.
        yield restored(task_id), restored(queue) if isinstance(queue, str) else None


_FILTERS = ("state", "type", "error", "since", "until", "group")


def check_where(selection: Any, where: Mapping[str, Any]) -> None:
    """Raise `UsageError` unless ``where`` is a filter, or only a queue with a ``selection``."""
    known = ("queue", *_FILTERS)
    unknown = [name for name in where if name not in known]
    if unknown:
        raise UsageError(f"{shown(unknown[0])} chooses no tasks{known_names(unknown[0], known)}")
    given = [name for name in _FILTERS if where.get(name) is not None]
    if selection is not None and given:
        raise UsageError(f"{given[0]}= is of filters: pass either tasks, or a filter")


def check_number(value: int, what: str, least: int, most: int) -> None:
    """Raise `UsageError` unless ``value`` is a whole number in this range."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UsageError(f"{what}={value!r} must be a whole number from {least} to {most}")
