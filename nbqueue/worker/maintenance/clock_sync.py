"""Keep a worker's clock equal to the store's."""

from __future__ import annotations

from typing import Any

from nbqueue.clock import Clock, steady_time
from nbqueue.store.connection import Store
from nbqueue.transport.blocking import BlockingConnection
from nbqueue.transport.resp import ReplyError
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.service_context import ServiceContext


class ClockSync(Service):
    """Measures the store's time once a minute."""

    def __init__(self, context: ServiceContext) -> None:
        super().__init__(context, 60.0)

    def stop(self) -> None:
        super().stop()
        # When the store is back, it may be another server.
        self._clock.restart()

    def run_once(self) -> None:
        sent_at = steady_time()

        def read(reply: Any) -> None:
            if not isinstance(reply, ReplyError):
                self._clock.measured(sent_at, steady_time(), _seconds(reply))

        self._connections.registry().call(("TIME",), read)


def set_clock(store: Store, clock: Clock) -> None:
    """Measure the store's time, blocking, before other work could delay the answer."""
    connection = BlockingConnection(store)
    for _ in range(3):
        sent_at = steady_time()
        [reply] = connection.call(("TIME",))
        clock.measured(sent_at, steady_time(), _seconds(reply))
    connection.close()


def _seconds(reply: Any) -> float:
    """The reply of TIME as Unix seconds."""
    seconds, micros = reply
    return int(seconds) + int(micros) / 1e6
