"""Cancel tasks of this worker."""

from __future__ import annotations

import logging

from nbqueue.executor import pipe
from nbqueue.worker.executors.executor_process import NOT_BEGUN
from nbqueue.worker.executors.pool import Pool
from nbqueue.worker.tasks.large_arguments import LargeArguments

log = logging.getLogger("nbqueue.worker")


class TaskCanceller:
    """Ends all attempts at a task in this worker."""

    def __init__(self, large_arguments: LargeArguments, pool: Pool) -> None:
        self._large_arguments = large_arguments
        self._pool = pool

    def cancel(self, task_id: str) -> None:
        """Cancel the tasks with this id, which several queues may have."""
        for attempt in self._large_arguments.take_out(task_id):
            attempt.stop_reason = pipe.CANCELLED
            attempt.owner.lost(attempt, NOT_BEGUN, innocent=False)
        for attempt in self._pool.find(task_id):
            log.info("task is cancelled id=%s type=%s", attempt.task_id, attempt.message.type)
            self._pool.interrupt(attempt, pipe.CANCELLED)
