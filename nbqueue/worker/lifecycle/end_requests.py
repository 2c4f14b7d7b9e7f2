"""Requests to end the worker."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger("nbqueue.worker")


class EndRequests:
    """Passes on requests to end the worker.

    For parts that are made before its supervisor.
    """

    def __init__(self) -> None:
        self._on_end: list[Callable[[int], None]] = []
        self._on_drain: list[Callable[[], None]] = []

    def subscribe(self, on_end: Callable[[int], None], on_drain: Callable[[], None]) -> None:
        """Call ``on_end(exit_code)`` or ``on_drain()`` for each request."""
        self._on_end.append(on_end)
        self._on_drain.append(on_drain)

    def end(self, exit_code: int = 0) -> None:
        """Request the worker's end with this exit code of its process."""
        for listener in self._on_end:
            listener(exit_code)

    def drain(self) -> None:
        """Request the worker's end after its running tasks, however long they take."""
        for listener in self._on_drain:
            listener()

    def fail(self, why: str) -> None:
        """Request the worker's end because it cannot run tasks."""
        log.critical("worker cannot run tasks and ends reason=%s", why)
        self.end(1)
