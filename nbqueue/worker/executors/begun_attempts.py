"""Find the attempts that executors have begun, and note them in the store."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from nbqueue.broker.commands import lifecycle
from nbqueue.worker.executors.executor_process import SYNC
from nbqueue.worker.executors.pool import Pool
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.tasks.attempt import Attempt

NOTED_AFTER = 1.0
"""Seconds that a task runs before its beginning is noted in the store."""

_SLICE = 500


class BegunAttempt(NamedTuple):
    """An attempt that has begun, and its start on the reactor's clock."""

    attempt: Attempt
    since: float


def begun_attempts(pool: Pool) -> Iterator[BegunAttempt]:
    """Yield the attempts that have begun, without those queued behind another."""
    for executor in pool.executors:
        if not executor.ready:
            continue
        for attempt in executor.attempts.values():
            is_sync = executor.kind == SYNC
            yield BegunAttempt(attempt, executor.began_at if is_sync else attempt.sent_at)
            if is_sync:
                break


class BeginNotes(Service):
    """Notes each task in the store that has run for a second.

    If this worker dies, one of these tasks may be the cause, and no other task is
    (docs/decisions/0008).
    """

    def __init__(self, context: ServiceContext, pool: Pool) -> None:
        self._pool = pool
        super().__init__(context, NOTED_AFTER / 2)

    def run_once(self) -> None:
        before = self._reactor.now() - NOTED_AFTER
        by_queue: dict[str, list[Attempt]] = {}
        for attempt, since in begun_attempts(self._pool):
            if since <= before and not attempt.is_noted:
                by_queue.setdefault(attempt.queue, []).append(attempt)
        for queue, attempts in by_queue.items():
            for start in range(0, len(attempts), _SLICE):
                part = attempts[start : start + _SLICE]
                tasks = [(each.task_id, each.fence, each.fetches) for each in part]
                self._send(queue, lifecycle.note_begun(queue, tasks), partial(_note, part))


def _note(attempts: list[Attempt], held: int | None) -> None:
    if held is not None:
        for attempt in attempts:
            attempt.is_noted = True
