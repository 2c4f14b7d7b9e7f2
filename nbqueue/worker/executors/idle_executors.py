"""End executors that are idle for long, down to the least number."""

from __future__ import annotations

import logging

from nbqueue.durations import format_duration
from nbqueue.worker.executors.executor_process import SYNC
from nbqueue.worker.executors.pool import Pool
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.service_context import ServiceContext

log = logging.getLogger("nbqueue.worker")

IDLE_SECONDS = 30.0


class IdleExecutors(Service):
    """Looks once a second. The pool itself starts executors when tasks would wait.

    Only an executor that has no task is ended, and it gets none from then on, so no task is
    affected.
    """

    def __init__(self, context: ServiceContext, pool: Pool, least: int) -> None:
        self._pool = pool
        self._least = least
        super().__init__(context, 1.0)

    def run_once(self) -> None:
        usable = [
            each
            for each in self._pool.executors
            if each.kind == SYNC and not each.is_fresh and not each.retiring
        ]
        before = self._reactor.now() - IDLE_SECONDS
        idle = [each for each in usable if each.is_idle_since(before)]
        # The first in the list are used first, so the last are the most idle.
        for executor in idle[::-1][: max(0, len(usable) - self._least)]:
            log.info("executor ends pid=%d idle=%s", executor.pid, format_duration(IDLE_SECONDS))
            self._pool.retire(executor)
