"""Lets parked tasks go on: those for which a limit has room, or a lock is free.

Mostly the script that makes room does that itself. The judge is for room that comes with time,
which it knows to the moment, and for what programs in Go did, which it finds within seconds.
"""

from __future__ import annotations

from nbqueue.broker.commands import limits
from nbqueue.clock import Clock
from nbqueue.limits import IDLE_SECONDS
from nbqueue.runtime.reactor import Reactor
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.decoding import time_ms
from nbqueue.wire.keys import queue_keys
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.maintenance.service import Forwarder, Service

_SLICE = 200


class ParkedTasks(Forwarder):
    """Looks at what parked tasks wait for, when the store says that it may be time."""

    def _forward(self, queue: str) -> None:
        self._send(limits.judge(queue, self._clock.now_ms()), lambda reply: self._on(queue, reply))


class LimitExpiry(Service):
    """Forgets limits that nobody asked for in a week, slice by slice."""

    def __init__(
        self,
        reactor: Reactor,
        links: WorkerConnections,
        clock: Clock,
        queues: list[str],
        interval: float = 600.0,
        idle: float = IDLE_SECONDS,
    ) -> None:
        self._queues = queues
        self._idle_ms = int(idle * 1000)
        super().__init__(reactor, links, clock, interval)

    def run_once(self) -> None:
        for queue in self._queues:
            self._scan(queue, b"0")

    def _scan(self, queue: str, cursor: bytes) -> None:
        link = self._links.upkeep
        if link is not None:
            key = queue_keys(queue).limits
            link.call(("HSCAN", key, cursor, "COUNT", _SLICE), lambda reply: self._on(queue, reply))

    def _on(self, queue: str, reply: object) -> None:
        if isinstance(reply, ReplyError) or not isinstance(reply, list):
            return
        cursor, flat = reply
        now_ms = self._clock.now_ms()
        before = now_ms - self._idle_ms
        for name, text in zip(flat[::2], flat[1::2], strict=True):
            used_ms = time_ms(text.rpartition(b"|")[2])
            if used_ms is None or used_ms < before:
                shown = name.decode("utf-8", "surrogateescape")
                if shown.isprintable():
                    self._send(
                        limits.remove_limit(queue, shown, now_ms, before), lambda reply: None
                    )
        if cursor != b"0":
            self._scan(queue, cursor)
