"""Which queues a worker serves, while it runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import islice

from nbqueue.broker.commands.presence import MOST_QUEUES, changed_queues, read_change
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.handler_table import HandlerTable
from nbqueue.worker.maintenance.presence import Presence
from nbqueue.worker.tasks.fetcher import Fetcher
from nbqueue.worker.unreadable_data import set_aside

log = logging.getLogger("nbqueue.worker")

_SHOWN = 20
"""How many queues a line of the log names."""


class ServedQueues:
    """The queues of a worker with their weights.

    ``weights`` and ``names`` are shared with the parts that go through them, and change in place.
    What was fetched from a queue that is not served any more goes on here to its end.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        self.weights = dict(weights)
        self.names = list(weights)

    def connect(
        self,
        worker_id: str,
        links: WorkerConnections,
        fetcher: Fetcher,
        handlers: HandlerTable,
        presence: Presence,
    ) -> None:
        """Say whom changes concern."""
        self._worker_id = worker_id
        self._links = links
        self._fetcher = fetcher
        self._handlers = handlers
        self._presence = presence

    def __str__(self) -> str:
        shown = islice(self.weights.items(), _SHOWN)
        text = ",".join(f"{name}={weight}" for name, weight in shown)
        more = len(self.weights) - _SHOWN
        return f"{text} and {more:,} more" if more > 0 else text

    def on_message(self, value: bytes) -> None:
        """Somebody said something to a worker, perhaps to this one."""
        changes = read_change(value, self._worker_id)
        if changes is not None:
            self.change(changes)

    def change(self, changes: Mapping[str, int]) -> None:
        """Serve what ``changes`` names with a weight, and no more what it names with 0."""
        wanted = changed_queues(self.weights, changes)
        if not wanted:
            log.error("worker keeps its queues: they are the last that it serves")
            return
        if len(wanted) > max(MOST_QUEUES, len(self.weights)):
            set_aside("command", "queues", f"it is to serve {len(wanted)} queues")
            return
        added = [name for name in wanted if name not in self.weights]
        removed = [name for name in self.names if name not in wanted]
        if wanted == self.weights:
            self._presence.run_once()
            return
        self.weights.clear()
        self.weights.update(wanted)
        self.names[:] = wanted
        self._fetcher.order.change(wanted)
        for name in removed:
            self._links.remove_queue(name)
            self._fetcher.forget(name)
            self._handlers.forget(name)
            self._presence.forget(name)
        for name in added:
            self._handlers.add(name)
            self._links.add_queue(name, self._fetcher.look)
            self._fetcher.required.look(name)
        log.info(
            "worker serves other queues id=%s queues=%s",
            self._worker_id,
            self,
        )
        self._presence.run_once()
