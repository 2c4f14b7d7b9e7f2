"""The leases of one worker: their tokens, and their attempts."""

from __future__ import annotations

from nbqueue.worker.tasks.attempt import Attempt


class LeaseTokens:
    """Makes the tokens under which a worker takes tasks: ``<worker>:<Unix ms>:<number>``."""

    def __init__(self, worker_id: str, seconds: float) -> None:
        self.worker_id = worker_id
        self.seconds = seconds
        """Seconds that a lease lasts unless it is extended."""
        self.issued = 0
        """The number of issued tokens, which is the number of the last one."""
        self.lease_ms = int(seconds * 1000)
        """Milliseconds that a lease lasts after it was written."""

    def new(self, now_ms: int) -> str:
        """Return a token that was not used before."""
        self.issued += 1
        return f"{self.worker_id}:{now_ms}:{self.issued}"


class HeldTasks(dict[int, Attempt]):
    """The attempts whose leases this worker extends, by their numbers.

    An attempt is held from fetch to acknowledgement.
    """

    def has_task(self, queue: str, task_id: str) -> bool:
        """Return whether a task of ``queue`` with this id is held."""
        return any(each.task_id == task_id and each.queue == queue for each in self.values())

    def by_queue(self) -> dict[str, list[Attempt]]:
        """Return the attempts by the queues of their tasks."""
        found: dict[str, list[Attempt]] = {}
        for attempt in self.values():
            found.setdefault(attempt.queue, []).append(attempt)
        return found
