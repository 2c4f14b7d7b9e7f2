"""The leases of one worker: their tokens, and their attempts."""

from __future__ import annotations

from collections.abc import Iterator

from nbqueue.worker.tasks.attempt import Attempt


class LeaseTokens:
    """Makes the tokens under which a worker takes tasks: ``<worker>:<Unix ms>:<number>``."""

    def __init__(self, worker_id: str, seconds: float) -> None:
        self.worker_id = worker_id
        self.seconds = seconds
        """Seconds that a lease lasts unless it is extended."""
        self.issued = 0
        """The number of issued tokens, which is the number of the last one."""
        self._lease_ms = int(seconds * 1000)

    def new(self, now_ms: int) -> str:
        """Return a token that was not used before."""
        self.issued += 1
        return f"{self.worker_id}:{now_ms}:{self.issued}"

    def until_ms(self, now_ms: int) -> int:
        """Return when a lease ends that is written at ``now_ms``."""
        return now_ms + self._lease_ms


class HeldTasks:
    """The attempts whose leases are this worker's, from fetch to acknowledgement."""

    def __init__(self) -> None:
        self._attempts: dict[int, Attempt] = {}

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self._attempts.values())

    def add(self, attempt: Attempt) -> None:
        """Extend the lease of ``attempt`` from now on."""
        self._attempts[attempt.number] = attempt

    def remove(self, attempt: Attempt) -> None:
        """Release the lease of ``attempt``, if it is held."""
        self._attempts.pop(attempt.number, None)

    def has_task(self, queue: str, task_id: str) -> bool:
        """Return whether a task of ``queue`` with this id is held."""
        return any(each.task_id == task_id and each.queue == queue for each in self)

    def by_queue(self) -> dict[str, list[Attempt]]:
        """Return the attempts by the queues of their tasks."""
        found: dict[str, list[Attempt]] = {}
        for attempt in self:
            found.setdefault(attempt.queue, []).append(attempt)
        return found
