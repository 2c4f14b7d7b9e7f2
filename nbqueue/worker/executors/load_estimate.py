"""Estimate how many tasks to fetch ahead, and how long to sleep. Pure.

Short tasks are fetched many at a time, or the round trips would cost more than the tasks. Long ones
are fetched one for each free slot, as no other worker can run the tasks that wait here.
"""

from __future__ import annotations

from collections.abc import Sequence

AHEAD = 0.02
"""Seconds of work that may be fetched ahead for each slot."""
QUEUED = 0.004
"""Seconds of work that may be queued in an executor behind its task."""
MOST_AHEAD = 512
MOST_QUEUED = 64
_LONGEST_REST = 0.002
_SHORTEST_REST = 0.0002
_MANY = 64
"""The number of concurrent tasks from which a process always has work left."""
_FIRST_GUESS = 0.05
_WEIGHT = 0.1


class LoadEstimate:
    """A running estimate of a task's duration: quick to rise, slow to fall."""

    def __init__(self) -> None:
        self.seconds = _FIRST_GUESS
        """The approximate duration of a task."""
        self._seen = 0

    def ended(self, seconds: float) -> None:
        """Record the duration of a task, in seconds."""
        self._seen += 1
        if seconds > self.seconds * 8:
            # One long task among short ones: fetch less at once.
            self.seconds = max(self.seconds, seconds / 8)
        else:
            # The first guess is a high one, and must soon be forgotten.
            weight = max(_WEIGHT, 1 / (self._seen + 1))
            self.seconds += weight * (seconds - self.seconds)

    def ahead(self, slots: int) -> int:
        """Return the number of tasks that may be held beyond the slots."""
        if self.seconds * MOST_AHEAD <= AHEAD * slots:
            return MOST_AHEAD
        return int(AHEAD * slots / self.seconds)

    def queued(self) -> int:
        """Return the number of tasks that may be queued in one executor."""
        if self.seconds * MOST_QUEUED <= QUEUED:
            return MOST_QUEUED
        return int(QUEUED / self.seconds)

    def slack(self, ordinary: Sequence[int], others: int) -> float:
        """Return the approximate time that the supervisor may sleep, in seconds.

        ``ordinary``: the number of tasks in each executor that runs one at a time. ``others``: the
        number of tasks in all executors that run many.
        """
        if others:
            # Many others have work left when one of them ends; ordinary tasks would have to wait.
            return 0.0 if others < _MANY or any(ordinary) else _LONGEST_REST
        waiting = min(ordinary, default=0) - 1
        if waiting <= 0:
            return 0.0
        seconds = min(waiting * self.seconds / 2, _LONGEST_REST)
        return seconds if seconds >= _SHORTEST_REST else 0.0
