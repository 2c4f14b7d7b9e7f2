"""Move any number of tasks of a queue, in short scripts.

The scripts are so short that other clients are served in between.

Removing a task from the pending list takes a search through the list. Where that is long, it is
read in pages first and the scripts get the position of each task: they remove many tasks in one
pass from the nearer end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands.inspect import MOST_MOVED, Moved
from nbqueue.transport.script_call import Command
from nbqueue.wire.keys import stored_keys

AT_ONCE = 100
"""Tasks in one script that gets no positions."""

_ROUNDS = 10
_PAGE = 2000
_MOST_PAGES = 8
_SCRIPTS = 20
_BUDGET_US = 8500.0
_FEWEST = 50
"""Limits of one script: its time, and the fewest tasks that it takes.

The time is in microseconds on a slow machine, by the following estimates. Even a script over that
time takes the fewest tasks.
"""
_PASSING_US, _MARK_US, _WINDOW_US, _WINDOW = 0.018, 0.00002, 20.0, 20
MOST_FOUND = 4000
"""Tasks to find before scripts run."""

TASK_US = 25.0
"""Estimate for one task, without finding and marking it."""

Make = Callable[[Sequence[str], "Sequence[int] | None"], Command[Moved]]
"""Function that makes the command for tasks with these ids and distances.

A distance is counted from the end of the list.
"""

Part = tuple[Sequence[str], "Sequence[int] | None"]

Note = Callable[[Sequence[str], Moved], list[str]]
"""Function that notes the results for tasks and returns the tasks to repeat.

Those were refused as `FAR`, or have changed.
"""


_Found = tuple[int, str]
"""Distance from the end of the list, and id."""


class _Lazily:
    """Commands that are made while earlier ones are under way."""

    def __init__(self, make: Make, parts: Sequence[Part]) -> None:
        self._make = make
        self._parts = parts

    def __iter__(self) -> Iterator[Command[Moved]]:
        return (self._make(*part) for part in self._parts)


def act_on_many(
    broker: Broker,
    queue: str,
    task_ids: Iterable[str],
    make: Make,
    note: Note,
    *,
    lazily: bool = False,
    cost: Callable[[], float] = lambda: TASK_US,
) -> None:
    """Run the commands that ``make`` returns on all of these tasks.

    ``lazily``: make them while others are under way; ``make`` must not use ``broker`` then.
    ``cost`` estimates the time of the next task, in microseconds.
    """
    many = _Many(broker, queue, make, note, cost, lazily)
    left = list(task_ids)
    if len(left) > AT_ONCE and many.is_long():
        left = many.along_the_list(left)
    for _ in range(_ROUNDS):
        left = many.anywhere(left)
        if not left:
            return
        left = many.along_the_list(left)
    while left:
        # Other programs move them faster than they are found, so let the script search.
        left = [again for task_id in left for again in many.search(task_id)]


class _Many:
    def __init__(
        self,
        broker: Broker,
        queue: str,
        make: Make,
        note: Note,
        cost: Callable[[], float],
        is_lazy: bool,
    ) -> None:
        self._broker = broker
        self._queue = queue
        self._pending = stored_keys(queue).pending
        self._make = make
        self._note = note
        self._cost = cost
        self._is_lazy = is_lazy

    def is_long(self) -> bool:
        """Return whether the pending list is so long that it should be read first."""
        [length] = self._broker.call(("LLEN", self._pending), on=self._queue)
        return bool(length > _PAGE)

    def anywhere(self, task_ids: Sequence[str]) -> list[str]:
        """Move tasks without positions; return those to repeat.

        A task is to be repeated if it is far back in a long list, for example.
        """
        parts = [task_ids[start : start + AT_ONCE] for start in range(0, len(task_ids), AT_ONCE)]
        return self._run([(part, None) for part in parts])

    def search(self, task_id: str) -> list[str]:
        """Move one task, for which the script searches the whole list."""
        return self._run([([task_id], [0])])

    def along_the_list(self, task_ids: Sequence[str]) -> list[str]:
        """Move the tasks that are found in the pending list; return the others."""
        wanted = {task_id.encode("utf-8", "replace"): task_id for task_id in task_ids}
        again: list[str] = []
        offset, is_over = 0, False
        while wanted and not is_over:
            found: list[_Found] = []
            length, pages = 0, 1
            while wanted and len(found) < MOST_FOUND:
                starts = [offset + _PAGE * number for number in range(pages)]
                length, *lists = self._broker.call(
                    ("LLEN", self._pending),
                    *(("LRANGE", self._pending, -start - _PAGE, -start - 1) for start in starts),
                    on=self._queue,
                )
                before = len(found)
                for start, page in zip(starts, lists, strict=True):
                    for distance, raw in enumerate(reversed(page), start + 1):
                        if raw in wanted:
                            found.append((distance, wanted.pop(raw)))
                    offset = start + len(page)
                if len(lists[-1]) < _PAGE:
                    is_over = True
                    break
                pages = min(pages * 2, _MOST_PAGES) if len(found) == before else 1
            failed = self._run(list(_in_parts(found, length, self._cost())))
            offset -= len(found) - len(failed)
            again += failed
        return [*wanted.values(), *again]

    def _run(self, parts: Sequence[Part]) -> list[str]:
        again: list[str] = []
        for start in range(0, len(parts), _SCRIPTS):
            slice_ = parts[start : start + _SCRIPTS]
            commands: Iterable[Command[Moved]] = _Lazily(self._make, slice_)
            if not self._is_lazy:
                commands = list(commands)
            for (ids, _), moved in zip(slice_, self._broker.run_all(commands), strict=True):
                again += self._note(ids, moved)
        return again


def _in_parts(
    found: Sequence[_Found], length: int, task_us: float
) -> Iterator[tuple[list[str], list[int]]]:
    """Yield the ids and positions for one script each.

    Positions are those after the earlier scripts have run.
    """
    ids: list[str] = []
    distances: list[int] = []
    spent = seen_to = 0.0
    gone = 0  # by the scripts before this one
    for distance, task_id in found:
        passed = min(distance, length - distance)
        if len(ids) == MOST_MOVED or (
            len(ids) >= _FEWEST and _PASSING_US * passed + spent > _BUDGET_US
        ):
            yield ids, distances
            gone += len(ids)
            ids, distances, spent, seen_to = [], [], 0.0, 0.0
        if distance > seen_to:
            spent += _WINDOW_US
        seen_to = distance + _WINDOW
        spent += task_us + _MARK_US * passed
        ids.append(task_id)
        distances.append(distance - gone)
    if ids:
        yield ids, distances
