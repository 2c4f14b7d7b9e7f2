"""Give active tasks without a lease an expired one.

The recoverer finds them by it.
"""

from __future__ import annotations

import logging
from functools import partial

from nbqueue.broker.commands import maintenance
from nbqueue.broker.commands.maintenance import Repaired
from nbqueue.worker.maintenance.service import Component
from nbqueue.worker.service_context import ServiceContext

log = logging.getLogger("nbqueue.worker")

_SLICE = 500


class LeaseRepair(Component):
    """Repairs a queue's active tasks in slices, one slice per call."""

    def __init__(self, context: ServiceContext) -> None:
        super().__init__(context)
        self._starts: dict[str, int] = {}

    def repair(self, queue: str) -> None:
        """Look at the next slice of ``queue``."""
        start = self._starts.get(queue, 0)
        command = maintenance.repair_leases(queue, self._clock.now_ms(), start, _SLICE)
        self._send(queue, command, partial(self._on_repaired, queue, start))

    def _on_repaired(self, queue: str, start: int, reply: Repaired | None) -> None:
        if reply is None:
            return
        if reply.repaired:
            log.warning("tasks found without a lease queue=%s tasks=%d", queue, reply.repaired)
        if reply.seen < _SLICE:
            self._starts.pop(queue, None)
        else:
            self._starts[queue] = start + reply.seen
