"""The members of a task group as runs of ids.

Ids that a client makes together share all but their last four digits, and count up. So a thousand
of them are stored as one entry: ``"<size> <first id>"``. Other ids are runs of one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from nbqueue.wire import ids
from nbqueue.wire.decoding import whole_number

MOST_AT_ONCE: Final = 1_024
"""The most members that are recorded together, before they are enqueued: the longest run."""

MOST_MEMBERS: Final = 20_000_000
"""The most members that a group in the store can have. Larger ones are not read."""


class Run(NamedTuple):
    """``size`` ids, which count up from the first."""

    first: str
    size: int

    @property
    def entry(self) -> str:
        """The run as it is stored."""
        return f"{self.size} {self.first}"

    def part(self, start: int, stop: int) -> Run:
        """Return the ids from ``start`` up to ``stop`` as a run."""
        if start == 0:
            return Run(self.first, stop)
        return Run(ids.nth_after(self.first, start), stop - start)


def runs_of(task_ids: Sequence[str]) -> list[Run]:
    """Return ids in order as runs.

    Ids of one client grow, so where the ends of ``task_ids`` are as far apart as there are ids, all
    count up.
    """
    first, last = ids.number_of(task_ids[0]), ids.number_of(task_ids[-1])
    is_one = first is not None and last is not None and last - first == len(task_ids) - 1
    if is_one and task_ids[0][:-4] == task_ids[-1][:-4]:
        return [Run(task_ids[0], len(task_ids))]
    found: list[Run] = []
    head, following = "", -1
    for task_id in task_ids:
        number = ids.number_of(task_id)
        if found and number is not None and number == following and task_id[:-4] == head:
            found[-1] = found[-1]._replace(size=found[-1].size + 1)
        else:
            found.append(Run(task_id, 1))
            head = task_id[:-4]
        following = -1 if number is None else number + 1
    return found


def read_run(entry: bytes) -> Run | None:
    """Decode a stored run; None if it cannot be read."""
    number, _, first = entry.partition(b" ")
    count = whole_number(number, 1, MOST_AT_ONCE)
    try:
        name = first.decode()
    except UnicodeDecodeError:
        return None
    if count is None or not name or (count > 1 and ids.number_of(name) is None):
        return None
    return Run(name, count)


class MemberRuns:
    """The ids of a group's members, in order, as runs."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs: list[Run] = []
        self._ends: list[int] = []
        count = 0
        for run in runs:
            count += run.size
            if count > MOST_MEMBERS:
                break
            self.runs.append(run)
            self._ends.append(count)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def ids(self) -> list[str]:
        """Return all ids, in order."""
        return ids_of(self.runs)

    def id_at(self, position: int) -> str:
        """Return the id of the member at this position, from 0. Raises `IndexError`."""
        if not 0 <= position < len(self):
            raise IndexError(position)
        return self.part(position, position + 1)[0].first

    def part(self, start: int, stop: int) -> list[Run]:
        """Return the members from ``start`` up to ``stop`` as runs."""
        start, stop = max(start, 0), min(stop, len(self))
        found: list[Run] = []
        number = bisect_right(self._ends, start)
        while start < stop:
            run, end = self.runs[number], self._ends[number]
            begin = end - run.size
            found.append(run.part(start - begin, min(stop, end) - begin))
            start, number = end, number + 1
        return found


def ids_of(runs: Iterable[Run]) -> list[str]:
    """Return the ids of runs, in order."""
    found: list[str] = []
    for run in runs:
        found += [run.first] if run.size == 1 else ids.ids_from(run.first, run.size)
    return found
