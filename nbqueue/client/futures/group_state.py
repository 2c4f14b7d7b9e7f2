"""`GroupState`: the ended tasks of a group, by outcome.

Does no I/O and holds no lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Generic, NamedTuple, Protocol, TypeVar

from nbqueue.moved_modules import pickled_as


class TaskEnd(Protocol):
    """The end of a task, as far as a group looks at it."""

    @property
    def is_failed(self) -> bool: ...
    @property
    def is_cancelled(self) -> bool: ...
    @property
    def is_gone(self) -> bool: ...
    @property
    def is_unfollowed(self) -> bool: ...


E = TypeVar("E", bound=TaskEnd)


@pickled_as("nbqueue.client.groups")
class Counts(NamedTuple):
    """Numbers of a group's tasks by outcome, as far as this process knows."""

    total: int
    completed: int
    failed: int
    cancelled: int
    gone: int = 0
    """Tasks that are no longer in the store, so that it is not known how they ended."""

    @property
    def done(self) -> int:
        """The number of tasks that have ended, in any state."""
        return self.completed + self.failed + self.cancelled + self.gone


class GroupState(Generic[E]):
    """The tasks of a group in order, with the outcomes of those that have ended.

    Its owner holds a lock around changes. ``ids``, ``outcomes`` and ``ended`` only ever grow or
    fill up, except when failed tasks run again, so they can be read without one.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.outcomes: list[E | None] = []
        """The outcome of each task, in the order of ``ids``; None until it has ended."""
        self.ended: list[int] = []
        """The indices of the tasks that have ended, in the order of their ends."""
        self._index: dict[str, int] = {}
        self._failed = self._cancelled = self._gone = self._unfollowed = 0
        self._first = 0
        """All tasks before this index have ended."""

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._index

    def add(self, task_ids: Sequence[str]) -> None:
        """Append tasks that have not ended."""
        first = len(self.ids)
        self.ids.extend(task_ids)
        self.outcomes.extend([None] * len(task_ids))
        self._index.update(zip(task_ids, range(first, len(self.ids)), strict=True))

    def index_of(self, task_id: str) -> int:
        """Return the position of a task in the group."""
        return self._index[task_id]

    def settle(self, ended: Iterable[tuple[str, E]]) -> list[int]:
        """Note how tasks have ended; return the indices of those that had not ended before."""
        found: list[int] = []
        for task_id, outcome in ended:
            index = self._index[task_id]
            if self.outcomes[index] is not None:
                continue
            self.outcomes[index] = outcome
            self.ended.append(index)
            found.append(index)
            if outcome.is_failed:
                self._count(outcome, 1)
        return found

    def reopen(self, task_ids: Sequence[str]) -> None:
        """Forget how these tasks ended, as they run again."""
        again = {self._index[task_id] for task_id in task_ids}
        self.ended = [index for index in self.ended if index not in again]
        self._first = 0
        for index in again:
            outcome, self.outcomes[index] = self.outcomes[index], None
            if outcome is not None:
                self._count(outcome, -1)

    def _count(self, outcome: E, number: int) -> None:
        if outcome.is_cancelled:
            self._cancelled += number
        elif outcome.is_gone:
            self._gone += number
        elif outcome.is_unfollowed:
            self._unfollowed += number
        elif outcome.is_failed:
            self._failed += number

    def recount(self) -> None:
        """Derive order and counts from the outcomes again, after a call of `settle` was cut off.

        A process can be forked while another thread is within `settle`.
        """
        known = {i: outcome for i, outcome in enumerate(self.outcomes) if outcome is not None}
        self.ended += sorted({*known} - {*self.ended})
        self._failed = self._cancelled = self._gone = self._unfollowed = 0
        for outcome in known.values():
            self._count(outcome, 1)

    @property
    def is_done(self) -> bool:
        """True if all tasks have ended."""
        return len(self.ended) == len(self.ids)

    def counts(self) -> Counts:
        """Count the tasks by how they ended. Those that are followed no longer did not."""
        bad = self._failed, self._cancelled, self._gone
        return Counts(len(self.ids), len(self.ended) - sum(bad) - self._unfollowed, *bad)

    def has_ended(self, index: int) -> bool:
        """Return whether the task at this index has ended."""
        return self.outcomes[index] is not None

    def unended(self) -> list[str]:
        """Return the ids of the tasks that have not ended, in order."""
        return [i for i, outcome in zip(self.ids, self.outcomes, strict=True) if outcome is None]

    def sample_unended(self, most: int) -> list[str]:
        """Return the ids of some tasks that have not ended: of the first ones, and the last."""
        outcomes, half = self.outcomes, most // 2
        while self._first < len(outcomes) and outcomes[self._first] is not None:
            self._first += 1
        left = range(self._first, len(outcomes))
        ends = (
            islice((i for i in part if outcomes[i] is None), half) for part in (left, left[::-1])
        )
        return [self.ids[i] for i in dict.fromkeys(chain.from_iterable(ends))]

    def failures(self, most: int) -> list[tuple[int, E]]:
        """Return index and outcome of the first ``most`` tasks that failed, by their ends.

        Tasks that were cancelled, are gone or are not followed any more are left out.
        """
        found: list[tuple[int, E]] = []
        for index in self.ended:
            outcome = self.outcomes[index]
            if len(found) == most:
                break
            if outcome is None or not outcome.is_failed:
                continue
            if not (outcome.is_cancelled or outcome.is_gone or outcome.is_unfollowed):
                found.append((index, outcome))
        return found


class EnoughEnded:
    """Decides whether enough tasks of a group have ended to return its results.

    That is all of them; without ``passes_failures``, all up to the first that failed.
    """

    def __init__(self, outcomes: Sequence[TaskEnd | None], passes_failures: bool) -> None:
        self._outcomes = outcomes
        self._passes_failures = passes_failures
        self._next = 0

    def __call__(self) -> bool:
        # It is asked at each end, so it looks at no outcome twice.
        while self._next < len(self._outcomes):
            outcome = self._outcomes[self._next]
            if outcome is None or (outcome.is_failed and not self._passes_failures):
                return outcome is not None
            self._next += 1
        return True
