"""Arguments in frames: which rows have given values, and their columns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from nbqueue.broker.reads.list_tasks import Listing, Wanted
from nbqueue.broker.reads.task_table import TaskRow
from nbqueue.calls.pickling.captured_values import warn_at_user
from nbqueue.client.arguments.call_screen import CallScreen
from nbqueue.client.arguments.stored_arguments import (
    ArgumentReader,
    NamedArguments,
    known_parameters,
)
from nbqueue.client.session import Session
from nbqueue.errors import LargeFrameWarning

_GONE: Final = NamedArguments({}, "its arguments are gone: the task is no longer in the store")
_MOST_SEEN: Final = 1_000
_PLAIN: Final = frozenset({int, float, str, bytes, bool, type(None)})


class ArgumentFilter:
    """Chooses arguments by their values."""

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self.tests = {name: _test(value) for name, value in wanted.items()}
        self.unseen = list(wanted)
        """The names that no task had so far."""
        self._seen: dict[str, None] = {}

    @property
    def seen(self) -> list[str]:
        """The names that tasks had, while not all of the wanted ones were among them."""
        return list(self._seen)

    def note(self, names: Collection[str]) -> None:
        """Note the names of the arguments of a task."""
        self.unseen = [name for name in self.unseen if name not in names]
        if len(self._seen) < _MOST_SEEN:
            self._seen.update(dict.fromkeys(names))

    def chooses(self, found: NamedArguments) -> bool:
        """Return whether a task with these arguments is wanted."""
        values = found.values
        if self.unseen:
            self.note(values)
        for name, test in self.tests.items():
            if name not in values or not test(values[name]):
                return False
        return True


class TaskArguments:
    """The arguments of the tasks of a table; those that a filter chose are read once."""

    def __init__(self, session: Session, wanted: bool | Mapping[str, Any]) -> None:
        self._reader = ArgumentReader(session)
        self._filter: ArgumentFilter | None = None
        self._screen: CallScreen | None = None
        if isinstance(wanted, Mapping):
            self._filter = ArgumentFilter(wanted)
            self._screen = CallScreen(wanted, self._filter.tests, known_parameters)
        self._chosen: dict[tuple[str, str], NamedArguments] = {}

    @property
    def parameters(self) -> tuple[list[str], list[str]]:
        """The names of the filter that no task had, and some that tasks had."""
        if self._filter is None or self._screen is None:
            return [], []
        for each in self._screen.ruled_out.values():
            self._filter.note((*each.positional, *each.only_keyword))
        return self._filter.unseen, self._filter.seen

    @property
    def rules_out(self) -> Callable[[bytes], bool] | None:
        """Tells of an encoded message that it is not wanted, unread; None if all are."""
        return None if self._screen is None else self._screen.rules_out

    @property
    def chooses(self) -> Callable[[TaskRow], bool] | None:
        """The filter of rows, or None if all rows are wanted."""
        return None if self._filter is None else self._is_chosen

    def _is_chosen(self, row: TaskRow) -> bool:
        assert self._filter is not None
        found = self._reader.read(row.queue, row.message)
        if not self._filter.chooses(found):
            return False
        self._chosen[row.queue, row.task_id] = found
        return True

    def of(self, rows: Iterable[TaskRow]) -> list[NamedArguments]:
        """Return the arguments of each row."""
        chosen, read = self._chosen, self._reader.read
        return [
            chosen.get((row.queue, row.task_id)) or read(row.queue, row.message) for row in rows
        ]


def arguments_of_attempts(
    session: Session, rows: Sequence[Mapping[str, str]]
) -> list[NamedArguments]:
    """Return the arguments of the tasks of these attempts, as far as they are in the store."""
    pairs = {(row.get("task_id", ""), row["queue"]): None for row in rows}
    queues = list(dict.fromkeys(queue for _, queue in pairs))
    wanted = Wanted(with_payload=True, with_attempts=False)
    table = Listing(session.broker).by_ids(queues, list(pairs), wanted)
    reader = ArgumentReader(session)
    found = {(row.task_id, row.queue): reader.read(row.queue, row.message) for row in table}
    return [found.get((row.get("task_id", ""), row["queue"]), _GONE) for row in rows]


def columns_of(named: Sequence[NamedArguments]) -> dict[str, Any]:
    """Return the columns of these arguments. Warns if there are too many."""
    from nbqueue.views.frames.argument_columns import argument_columns, column_names

    values = [each.values for each in named]
    names, left_out = column_names(values)
    if left_out:
        warn_at_user(
            f"the tasks have arguments of {len(names) + len(left_out):,} names; the frame has "
            f"columns for the {len(names)} that most tasks have. Choose fewer tasks, with type=",
            LargeFrameWarning,
        )
    return argument_columns(values, names)


def _test(wanted: Any) -> Callable[[Any], bool]:
    """Return a test of equality with a value; NaN is equal to NaN."""
    if isinstance(wanted, float) and wanted != wanted:
        return lambda value: isinstance(value, float) and value != value
    return lambda value: (
        value == wanted
        if type(value) in _PLAIN and type(wanted) in _PLAIN
        else _are_equal(value, wanted)
    )


def _are_equal(value: Any, wanted: Any) -> bool:
    try:
        if getattr(value, "shape", ()) != getattr(wanted, "shape", ()):
            return False  # an array is not equal to a number, even if each of its elements is
        if not getattr(wanted, "shape", ()):
            return bool(value == wanted)
        equals = getattr(wanted, "equals", None)  # of frames and series; NaN is equal to NaN
        if equals is not None:
            return bool(equals(value))
        return bool(sys.modules["numpy"].array_equal(value, wanted))
    except Exception:  # values of users may refuse any comparison
        return False
