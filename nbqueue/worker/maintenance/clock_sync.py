"""Keep a worker's clock equal to the store's."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from nbqueue.broker.resilient_calls import ResilientCaller
from nbqueue.clock import Clock, steady_time
from nbqueue.store.connection import Store
from nbqueue.transport.resp import ReplyError
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.service_context import ServiceContext

_START_SECONDS = 30.0
"""How long a starting worker tries again to measure the time."""


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
    """Measure the store's time, blocking, before other work could delay the answer.

    Raises `StoreUnreachable` if connections to the store are lost again and again.
    """
    with closing(ResilientCaller(store, _START_SECONDS, clock)) as caller:
        caller.measure_clock()
        caller.measure_clock()


def _seconds(reply: Any) -> float:
    """The reply of TIME as Unix seconds."""
    seconds, micros = reply
    return int(seconds) + int(micros) / 1e6
