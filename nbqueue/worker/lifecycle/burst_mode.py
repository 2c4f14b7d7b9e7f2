"""End a worker in burst mode when its queues are empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbqueue.broker.next_due import remaining
from nbqueue.transport.resp import ReplyError
from nbqueue.worker.lifecycle.end_requests import EndRequests
from nbqueue.worker.service_context import ServiceContext

_PAUSE = 0.1
_SOON_MS = 1000


class BurstMode:
    """Asks the store whether the queues are empty, while the worker is idle.

    A queue is empty if it has no pending tasks, and none that become pending within a second:
    scheduled ones, retries, and those that a rate or a lock holds back until then. A paused queue
    counts as empty. Tasks that other workers run do not count.
    """

    def __init__(
        self, context: ServiceContext, is_idle: Callable[[], bool], requests: EndRequests
    ) -> None:
        self._reactor = context.reactor
        self._connections = context.connections
        self._clock = context.clock
        self._queues = context.queues.names
        self._is_idle = is_idle
        self._requests = requests
        self._unanswered = 0
        self._is_waiting = self._has_found = False
        context.connections.on_down.append(self._look_again)

    def look(self) -> None:
        """Ask the store, unless the worker is busy. Called once a round."""
        if self._is_waiting or not self._connections.is_up or not self._is_idle():
            return
        self._is_waiting = True
        self._unanswered, self._has_found = len(self._queues), False
        until_ms = self._clock.now_ms() + _SOON_MS
        for queue in self._queues:
            self._connections.tasks(queue).send(remaining(queue, until_ms), self._on_reply)

    def _on_reply(self, reply: Any) -> None:
        # After an error the queue may have tasks: ask again.
        self._has_found = self._has_found or isinstance(reply, ReplyError) or reply
        self._unanswered -= 1
        if self._unanswered:
            return
        if not self._has_found and self._is_idle():
            self._requests.end()
        else:
            self._reactor.after(_PAUSE, self._look_again)

    def _look_again(self) -> None:
        self._is_waiting = False
