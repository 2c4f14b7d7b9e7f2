"""Move scheduled and retried tasks to pending when they are due."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from nbqueue.broker.commands import maintenance
from nbqueue.broker.commands.limits import Released
from nbqueue.broker.commands.maintenance import Forwarded
from nbqueue.transport.script_call import Command
from nbqueue.worker.maintenance.service import Component, QueueTimers
from nbqueue.worker.service_context import ServiceContext


class Forwarder(Component):
    """Runs a queue's script when its next task is due, by ``timers``.

    Scripts announce due times. Programs in Go announce nothing, so `QueueWatcher` runs this every
    second while the store does not report changes. ``look(queue)`` is called when tasks moved.
    """

    def __init__(self, context: ServiceContext, look: Callable[[str], None]) -> None:
        super().__init__(context)
        self._look = look
        self.timers = QueueTimers(context, self._forward)

    def _command(self, queue: str) -> Command[Any]:
        return maintenance.forward(queue, self._clock.now_ms())

    def _forward(self, queue: str) -> None:
        self._send(queue, self._command(queue), partial(self._on_reply, queue))

    def _on_reply(self, queue: str, reply: Forwarded | Released | None) -> None:
        if reply is None:
            return
        if reply.moved:
            self._look(queue)
        if reply.next_due_ms is not None:
            # One millisecond later: the clock counts whole ones, and being early costs a round.
            self.timers.set(queue, reply.next_due_ms + 1)
