"""Delete completed tasks past their retention, and old records of attempts."""

from __future__ import annotations

from nbqueue.broker.commands import maintenance
from nbqueue.wire.keys import queue_keys
from nbqueue.worker.maintenance.service import ATTEMPT_DAYS, QueueTimers, Service
from nbqueue.worker.service_context import ServiceContext


class Janitor(Service):
    """Trims attempts once a minute; deletes completed tasks when ``timers`` expire."""

    def __init__(self, context: ServiceContext) -> None:
        self._queues = context.queues.names
        self.timers = QueueTimers(context, self._delete, gap=8.0)
        super().__init__(context, 60.0)

    def run_once(self) -> None:
        oldest = self._clock.now_ms() - ATTEMPT_DAYS * 86_400_000
        for queue in self._queues:
            self._connections.upkeep(queue).call(
                ("XTRIM", queue_keys(queue).attempts, "MINID", "~", oldest)
            )

    def _delete(self, queue: str) -> None:
        self._send(
            queue,
            maintenance.delete_expired(queue, self._clock.now_ms()),
            lambda deleted: self._delete(queue) if deleted else None,
        )
