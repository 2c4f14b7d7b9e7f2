"""Extend the leases of the tasks that this worker holds."""

from __future__ import annotations

import logging
from functools import partial

from nbqueue.broker.commands import lifecycle
from nbqueue.worker.executors.waiting_attempts import WaitingAttempts
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.leases import HeldTasks

log = logging.getLogger("nbqueue.worker")

_SLICE = 500


class Heartbeat(Service):
    """Extends all leases six times in the time that one lasts.

    An attempt whose lease was lost before it began is dropped, as another worker may have the task.
    """

    def __init__(
        self,
        context: ServiceContext,
        held: HeldTasks,
        waiting: WaitingAttempts,
        lease_seconds: float,
    ) -> None:
        self._held = held
        self._waiting = waiting
        self._lease_ms = int(lease_seconds * 1000)
        super().__init__(context, lease_seconds / 6)

    def run_once(self) -> None:
        now_ms = self._clock.now_ms()
        for queue, attempts in self._held.by_queue().items():
            for start in range(0, len(attempts), _SLICE):
                part = attempts[start : start + _SLICE]
                held = [(attempt.task_id, attempt.fence) for attempt in part]
                self._send(
                    queue,
                    lifecycle.extend(queue, held, now_ms + self._lease_ms),
                    partial(self._on_extended, part, now_ms),
                )

    def drop(self, attempt: Attempt) -> None:
        """Stop holding an attempt that lost its lease before it began."""
        log.warning(
            "task not begun, as its lease was lost id=%s type=%s queue=%s",
            attempt.task_id,
            attempt.message.type,
            attempt.queue,
        )
        self._held.pop(attempt.number, None)

    def _on_extended(self, part: list[Attempt], sent_ms: int, refused: list[int] | None) -> None:
        if refused is None:
            return
        for position in refused:
            attempt = part[position]
            log.debug("no lease to extend id=%s queue=%s", attempt.task_id, attempt.queue)
            attempt.is_lost = True
            if self._waiting.drop(attempt):
                self.drop(attempt)
        for attempt in part:
            attempt.leased_ms = sent_ms
        self._waiting.on_renewed()
