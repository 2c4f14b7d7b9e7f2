"""Take over the tasks of workers on this machine whose process ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from nbqueue.broker.commands import maintenance
from nbqueue.broker.commands.maintenance import Held
from nbqueue.broker.commands.presence import vanish
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.keys import SERVERS, is_queue_name, queue_keys
from nbqueue.wire.server_info import decode_worker
from nbqueue.worker.maintenance.recoverer import LostAttempts
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.server_connections import QueueConnection
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.worker_id import is_gone, is_neighbour

log = logging.getLogger("nbqueue.worker")

_INTERVAL = 1.0
_READ_RECORDS_EVERY = 3
_READ_LISTS_EVERY = 30


class DeadWorkers(Service):
    """Checks the processes of known workers every second, without commands.

    It learns of workers every few seconds. The list of each queue names those that served it for
    long, so that a worker that replaces a dead one sees it at once; new ones announce themselves.
    Records name workers of other queues.
    """

    def __init__(self, context: ServiceContext, lost: LostAttempts) -> None:
        self._worker_id = context.worker_id
        self._queues = context.queues.names
        self._lost = lost
        self._turn = 0
        self._read: set[str] = set()
        self._known: dict[str, set[str]] = {}
        super().__init__(context, _INTERVAL)

    def stop(self) -> None:
        super().stop()
        self._turn = 0
        self._known.clear()

    def run_once(self) -> None:
        if self._turn % _READ_LISTS_EVERY == 0:
            self._read.clear()
            for queue in self._queues:
                _call(
                    self._connections.upkeep(queue),
                    ("ZRANGE", queue_keys(queue).workers, 0, -1),
                    partial(self._on_listed, queue),
                )
        if self._turn % _READ_RECORDS_EVERY == 0:
            _call(self._connections.registry(), ("ZRANGE", SERVERS, 0, -1), self._on_record_keys)
        self._turn += 1
        for queue in self._known:
            self._check(queue)

    def on_announced(self, queue: str, worker_id: bytes) -> None:
        """Get to know a worker that serves ``queue`` from now on."""
        self._on_listed(queue, [worker_id])

    def _on_record_keys(self, reply: list[bytes]) -> None:
        for key in reply:
            worker_id = key.decode("utf-8", "replace").partition("{")[2].rstrip("}")
            is_new = worker_id != self._worker_id and worker_id not in self._read
            if is_new and is_neighbour(worker_id):
                on_record = partial(self._on_record, worker_id)
                _call(self._connections.registry(), ("GET", key), on_record)

    def _on_record(self, worker_id: str, body: bytes | None) -> None:
        record = decode_worker(body) if body else None
        if record is not None:
            self._read.add(worker_id)
        for queue in record.queues if record is not None else ():
            if is_queue_name(queue):
                self._on_listed(queue, [worker_id.encode()])

    def _on_listed(self, queue: str, reply: list[bytes]) -> None:
        ids = {each.decode("utf-8", "replace") for each in reply} - {self._worker_id}
        neighbours = {each for each in ids if is_neighbour(each)}
        if neighbours:
            self._known.setdefault(queue, set()).update(neighbours)
            self._check(queue)

    def _check(self, queue: str) -> None:
        for worker_id in self._known[queue]:
            if is_gone(worker_id):
                self._send(
                    queue,
                    maintenance.held_by_worker(queue, worker_id),
                    partial(self._take_over, queue, worker_id),
                )

    def _take_over(self, queue: str, worker_id: str, found: list[Held] | None) -> None:
        if found is None:
            return
        for task in found:
            self._lost.on_left_behind(queue, task)
        if found:
            log.warning("worker died id=%s queue=%s tasks=%d", worker_id, queue, len(found))
            return  # It is checked again, as it may have held more than one search finds.
        self._known.get(queue, set()).discard(worker_id)
        for words in vanish(worker_id, [queue]):
            _call(self._connections.registry(), words, lambda reply: None)


def _call(
    connection: QueueConnection, words: tuple[Any, ...], on_reply: Callable[[Any], None]
) -> None:
    def read(reply: Any) -> None:
        if isinstance(reply, ReplyError):
            refused("to say which workers there are", reply)
        else:
            on_reply(reply)

    connection.call(words, read)
