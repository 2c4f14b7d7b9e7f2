"""Return the memory of large values to the system once no more arrive."""

from __future__ import annotations

from nbqueue.runtime import process_memory
from nbqueue.worker.executors.pool import Pool
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.service_context import ServiceContext

_SECONDS = 1.0


class MemoryTrimmer(Service):
    """Trims this process and its executors, at most once a second."""

    def __init__(self, context: ServiceContext, pool: Pool) -> None:
        self._pool = pool
        super().__init__(context, _SECONDS)

    def run_once(self) -> None:
        if process_memory.is_over(_SECONDS):
            process_memory.give_back()
            for executor in self._pool.executors:
                executor.give_back_memory()
