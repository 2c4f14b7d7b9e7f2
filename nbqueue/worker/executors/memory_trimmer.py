"""Giving back the memory that large values took, once no more of them come."""

from __future__ import annotations

from nbqueue.clock import Clock
from nbqueue.runtime import process_memory
from nbqueue.runtime.reactor import Reactor
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.executors.pool import Pool
from nbqueue.worker.maintenance.service import Service

_SECONDS = 1.0


class MemoryTrimmer(Service):
    """Looks every second, in this process and at its executors."""

    def __init__(
        self, reactor: Reactor, links: WorkerConnections, clock: Clock, pool: Pool
    ) -> None:
        self._pool = pool
        super().__init__(reactor, links, clock, _SECONDS)

    def run_once(self) -> None:
        if process_memory.is_over(_SECONDS):
            process_memory.give_back()
            for executor in self._pool.executors:
                executor.give_back_memory()
