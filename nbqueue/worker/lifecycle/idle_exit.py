"""End a worker that is idle for long, or whose owner has ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from nbqueue.durations import format_duration
from nbqueue.worker.lifecycle.end_requests import EndRequests
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.service_context import ServiceContext

if TYPE_CHECKING:
    import psutil

log = logging.getLogger("nbqueue.worker")


class IdleExit(Service):
    """Checks once a second whether the worker should end.

    ``idle_seconds``: end after this time without a task; None: never. ``owner``: the id of a
    process with which to end; None: with none.
    """

    def __init__(
        self,
        context: ServiceContext,
        is_idle: Callable[[], bool],
        requests: EndRequests,
        idle_seconds: float | None,
        owner: int | None,
    ) -> None:
        self._is_idle = is_idle
        self._requests = requests
        self._idle_seconds = idle_seconds
        self._owner = _process(owner) if owner is not None else None
        self._owner_pid = owner
        self._busy_at = context.reactor.now()
        super().__init__(context, 1.0)

    def run_once(self) -> None:
        if self._owner_pid is not None and not _lives(self._owner):
            log.info("worker ends with its owner pid=%d", self._owner_pid)
            self._owner_pid = None
            self._requests.end()
        if self._idle_seconds is None:
            return
        if not self._is_idle():
            self._busy_at = self._reactor.now()
        elif self._reactor.now() - self._busy_at >= self._idle_seconds:
            log.info("worker ends idle=%s", format_duration(self._idle_seconds))
            self._idle_seconds = None
            self._requests.end()


def _process(pid: int) -> psutil.Process | None:
    import psutil

    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _lives(process: psutil.Process | None) -> bool:
    # is_running also recognises another process that has this number by now.
    return process is not None and process.is_running() and process.status() != "zombie"
