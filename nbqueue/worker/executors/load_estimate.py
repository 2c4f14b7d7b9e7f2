"""How far ahead of its free slots a worker fetches, and how long it may rest. Pure.

Short tasks are fetched many at a time, or the round trips would cost more than the tasks. Long
ones are fetched one for each free slot: whatever lies here ahead of its time, no other worker
can run.
"""

from __future__ import annotations

from collections.abc import Sequence

AHEAD = 0.02
"""Seconds of work that may lie fetched, for each slot."""
PARKED = 0.004
"""Seconds of work that may lie with one executor, behind the task that it runs."""
MOST_AHEAD = 512
MOST_PARKED = 64
_LONGEST_REST = 0.002
_SHORTEST_REST = 0.0002
_MANY = 64
"""So many coroutines or threads of one process have enough to do when one of them has ended."""
_FIRST_GUESS = 0.05
_WEIGHT = 0.1


class LoadEstimate:
    """A running estimate of how long a task takes, quick to rise and slow to fall."""

    def __init__(self) -> None:
        self._seconds = _FIRST_GUESS
        self._seen = 0

    @property
    def estimate(self) -> float:
        """Seconds that a task takes, about."""
        return self._seconds

    def ended(self, seconds: float) -> None:
        """A task took this long."""
        self._seen += 1
        if seconds > self._seconds * 8:
            # One long task among short ones: be careful at once.
            self._seconds = max(self._seconds, seconds / 8)
        else:
            # The first guess, which is a careful one, is soon forgotten.
            weight = max(_WEIGHT, 1 / (self._seen + 1))
            self._seconds += weight * (seconds - self._seconds)

    def ahead(self, slots: int) -> int:
        """How many tasks may be in hand beyond the slots."""
        if self._seconds * MOST_AHEAD <= AHEAD * slots:
            return MOST_AHEAD
        return int(AHEAD * slots / self._seconds)

    def parked(self) -> int:
        """How many tasks may wait with one executor."""
        if self._seconds * MOST_PARKED <= PARKED:
            return MOST_PARKED
        return int(PARKED / self._seconds)

    def slack(self, ordinary: Sequence[int], others: int) -> float:
        """For how many seconds nobody misses the supervisor, about.

        ``ordinary`` are the numbers of tasks with each executor that runs one at a time; ``others``
        is how many run with those that run many.
        """
        if others:
            # One of many may end without anybody missing us; ordinary tasks beside them would.
            return 0.0 if others < _MANY or any(ordinary) else _LONGEST_REST
        waiting = min(ordinary, default=0) - 1
        if waiting <= 0:
            return 0.0
        seconds = min(waiting * self._seconds / 2, _LONGEST_REST)
        return seconds if seconds >= _SHORTEST_REST else 0.0
