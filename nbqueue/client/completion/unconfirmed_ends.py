"""Announced ends without proof, which count only once the store confirms them.

Any program that can write to Redis can announce the end of a task. Honest announcements are
published by the script that ended the task, so the first look confirms them. A look that confirms
less than all of its announcements is followed by a pause, which doubles each time, up to a second:
forged announcements cost little, however many there are. Pure; the listener's lock guards it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from nbqueue.client.results.outcome import RawOutcome

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
MOST_AT_ONCE = 64
"""The most tasks of one look."""

Announced = dict[str, "RawOutcome | None"]
"""The announced end of each task; None where the announcement leaves it to the store."""


class UnconfirmedEnds:
    """The announced ends by queue. Times are seconds on a monotonic clock."""

    def __init__(self) -> None:
        self._by_queue: dict[str, Announced] = {}
        self._being_confirmed: set[tuple[str, str]] = set()
        self._pause = 0.0
        self._next_at = 0.0

    def add(self, queue: str, ends: Iterable[tuple[str, RawOutcome | None]]) -> None:
        """Add announcements. The latest one for a task counts."""
        self._by_queue.setdefault(queue, {}).update(ends)

    def has(self, queue: str, task_id: str) -> bool:
        """Return whether an announced end of this task is still to be confirmed."""
        place = queue, task_id
        return task_id in self._by_queue.get(queue, ()) or place in self._being_confirmed

    def take(self, now: float) -> tuple[str, Announced] | None:
        """Take out tasks of one queue to look at.

        Returns None if there are none, or during a pause.
        """
        if now < self._next_at:
            return None
        for queue, waiting in list(self._by_queue.items()):
            chosen = {task_id: waiting.pop(task_id) for task_id in [*islice(waiting, MOST_AT_ONCE)]}
            if not waiting:
                del self._by_queue[queue]
            if chosen:
                self._being_confirmed.update((queue, task_id) for task_id in chosen)
                return queue, chosen
        return None

    def note_look(self, queue: str, task_ids: Iterable[str], now: float, *, in_vain: bool) -> None:
        """Note that these tasks were looked at. ``in_vain``: one of them has not ended."""
        self._being_confirmed.difference_update((queue, task_id) for task_id in task_ids)
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE) if in_vain else 0.0
        self._next_at = now + self._pause

    def next_in(self, now: float) -> float | None:
        """Return the seconds until the next look; None if there is nothing to look at."""
        return max(self._next_at - now, 0.0) if self._by_queue else None
