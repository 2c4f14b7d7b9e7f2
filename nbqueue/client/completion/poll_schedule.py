"""Schedule for reading awaited tasks from the store, a slice at a time. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

SLICE = 1_000
"""The most tasks of one look."""


class PollSchedule:
    """A queue of slices of tasks, each due ``interval`` seconds after it was added.

    The caller of `take` looks at the tasks, and adds those again that have not ended. Times are
    seconds on a monotonic clock.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        # (due at, queue, ids), the earliest first, as all have one interval.
        self._slices: deque[tuple[float, str, list[str]]] = deque()

    def add(self, queue: str, task_ids: Sequence[str], now: float) -> None:
        """Add tasks.

        Tasks of one queue that come within a tenth of the interval share a slice, so that many
        single ones do not make many slices.
        """
        at, room = 0, 0
        if self._slices:
            due, name, last = self._slices[-1]
            if name == queue and now + self._interval - due < self._interval / 10:
                room = max(SLICE - len(last), 0)
                last.extend(task_ids[:room])
                at = room
        while at < len(task_ids):
            self._slices.append((now + self._interval, queue, list(task_ids[at : at + SLICE])))
            at += SLICE

    def take(self, now: float) -> tuple[str, list[str]] | None:
        """Take out the queue and the tasks of a slice that is due, or None."""
        if not self._slices or self._slices[0][0] > now:
            return None
        _, queue, task_ids = self._slices.popleft()
        return queue, task_ids

    def take_all(self) -> list[tuple[str, list[str]]]:
        """Take out all slices, due or not."""
        found = [(queue, task_ids) for _, queue, task_ids in self._slices]
        self._slices.clear()
        return found

    @property
    def next_at(self) -> float | None:
        """The time at which the next slice is due; None if there is none."""
        return self._slices[0][0] if self._slices else None
