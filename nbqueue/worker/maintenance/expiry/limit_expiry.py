"""Delete limits that nothing has used for a week."""

from __future__ import annotations

from nbqueue.broker.commands import limits
from nbqueue.limits import IDLE_SECONDS
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.decoding import time_ms
from nbqueue.wire.keys import queue_keys
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.service_context import ServiceContext

_SLICE = 200


class LimitExpiry(Service):
    """Scans the limits of each queue every ten minutes, in slices."""

    def __init__(
        self, context: ServiceContext, interval: float = 600.0, idle: float = IDLE_SECONDS
    ) -> None:
        self._queues = context.queues.names
        self._idle_ms = int(idle * 1000)
        super().__init__(context, interval)

    def run_once(self) -> None:
        for queue in self._queues:
            self._scan(queue, b"0")

    def _scan(self, queue: str, cursor: bytes) -> None:
        self._connections.upkeep(queue).call(
            ("HSCAN", queue_keys(queue).limits, cursor, "COUNT", _SLICE),
            lambda reply: self._on_slice(queue, reply),
        )

    def _on_slice(self, queue: str, reply: object) -> None:
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
                    self._send(queue, limits.remove_limit(queue, shown, now_ms, before))
        if cursor != b"0":
            self._scan(queue, cursor)
