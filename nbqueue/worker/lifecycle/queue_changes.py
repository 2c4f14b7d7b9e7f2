"""Add and remove queues while a worker runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from nbqueue.broker.commands.presence import (
    MOST_QUEUES,
    changed_queues,
    is_drain_message,
    read_change,
)
from nbqueue.worker.handler_table import StoredHandlers
from nbqueue.worker.lifecycle.end_requests import EndRequests
from nbqueue.worker.lifecycle.presence import Presence
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.tasks.fetcher import Fetcher
from nbqueue.worker.unreadable_data import set_aside

log = logging.getLogger("nbqueue.worker")


class QueueChanges:
    """Applies requests to serve other queues, or to drain the worker.

    Tasks that were fetched from a removed queue still run to their end.
    """

    def __init__(
        self,
        context: ServiceContext,
        fetcher: Fetcher,
        handlers: StoredHandlers,
        presence: Presence,
        requests: EndRequests,
    ) -> None:
        self._worker_id = context.worker_id
        self._connections = context.connections
        self._queues = context.queues
        self._fetcher = fetcher
        self._handlers = handlers
        self._presence = presence
        self._requests = requests

    def on_message(self, value: bytes) -> None:
        """Apply a published request, if it names this worker."""
        if is_drain_message(value, self._worker_id):
            self._requests.drain()
            return
        changes = read_change(value, self._worker_id)
        if changes is not None:
            self.apply(changes)

    def apply(self, changes: Mapping[str, int]) -> None:
        """Serve the queues in ``changes`` with these weights; 0 removes one."""
        served = self._queues
        wanted = changed_queues(served.weights, changes)
        if not wanted:
            log.error("worker keeps its queues: they are the last that it serves")
            return
        if len(wanted) > max(MOST_QUEUES, len(served.weights)):
            set_aside("command", "queues", f"it is to serve {len(wanted)} queues")
            return
        added = [name for name in wanted if name not in served.weights]
        removed = [name for name in served.names if name not in wanted]
        if wanted == served.weights:
            self._presence.run_once()
            return
        served.replace(wanted)
        self._fetcher.order.change(wanted)
        for name in removed:
            self._connections.remove_queue(name)
            self._fetcher.forget(name)
            self._handlers.forget(name)
            self._presence.forget(name)
        for name in added:
            self._handlers.add(name)
            self._connections.add_queue(name, self._fetcher.look)
            self._fetcher.required.look(name)
        log.info("worker serves other queues id=%s queues=%s", self._worker_id, served)
        self._presence.run_once()
