"""Ends a worker that nobody needs any more: idle for long, or left behind by whoever wanted it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from nbqueue.clock import Clock
from nbqueue.durations import format_duration
from nbqueue.runtime.reactor import Reactor
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.maintenance.service import Service

if TYPE_CHECKING:
    import psutil

log = logging.getLogger("nbqueue.worker")


class IdleExit(Service):
    """Looks once a second. ``idle_seconds``: end after so long without a task; None: never.
    ``owner``: the process id of a process with which to end; None: with none."""

    def __init__(
        self,
        reactor: Reactor,
        links: WorkerConnections,
        clock: Clock,
        is_idle: Callable[[], bool],
        end: Callable[[], None],
        idle_seconds: float | None,
        owner: int | None,
    ) -> None:
        self._is_idle = is_idle
        self._end = end
        self._idle_seconds = idle_seconds
        self._owner = _process(owner) if owner is not None else None
        self._owner_pid = owner
        self._busy_at = reactor.now()
        super().__init__(reactor, links, clock, 1.0)

    def busy(self) -> None:
        """There was something to do."""
        self._busy_at = self._reactor.now()

    def run_once(self) -> None:
        if self._owner_pid is not None and not _lives(self._owner):
            log.info("worker ends with its owner pid=%d", self._owner_pid)
            self._owner_pid = None
            self._end()
        if self._idle_seconds is None:
            return
        if not self._is_idle():
            self.busy()
        elif self._reactor.now() - self._busy_at >= self._idle_seconds:
            log.info("worker ends idle=%s", format_duration(self._idle_seconds))
            self._idle_seconds = None
            self._end()


def _process(pid: int) -> psutil.Process | None:
    import psutil

    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _lives(process: psutil.Process | None) -> bool:
    # is_running also tells another process that has the number by now.
    return process is not None and process.is_running() and process.status() != "zombie"
