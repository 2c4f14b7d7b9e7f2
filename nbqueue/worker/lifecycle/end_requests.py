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
        self._listeners: list[Callable[[int], None]] = []

    def subscribe(self, listener: Callable[[int], None]) -> None:
        """Call ``listener(exit_code)`` for each request."""
        self._listeners.append(listener)

    def end(self, exit_code: int = 0) -> None:
        """Request the worker's end with this exit code of its process."""
        for listener in self._listeners:
            listener(exit_code)

    def fail(self, why: str) -> None:
        """Request the worker's end because it cannot run tasks."""
        log.critical("worker cannot run tasks and ends reason=%s", why)
        self.end(1)
