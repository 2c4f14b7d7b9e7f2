"""A worker in a burst: it ends when nothing is left to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbqueue.broker.next_due import remaining
from nbqueue.clock import Clock
from nbqueue.runtime.reactor import Reactor
from nbqueue.transport.resp import ReplyError
from nbqueue.worker.connections import WorkerConnections

_PAUSE = 0.1
_SOON_MS = 1000


class DrainMode:
    """Asks the store whether its queues are empty, whenever the worker has nothing in hand.

    A queue is empty if it has no pending tasks, and none that become pending within a second:
    scheduled ones, retries, and those that a rate or a lock holds back until then. So is one that
    is paused. Tasks that other workers run do not count.
    """

    def __init__(
        self,
        reactor: Reactor,
        links: WorkerConnections,
        clock: Clock,
        queues: Sequence[str],
        is_idle: Callable[[], bool],
        end: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._links = links
        self._clock = clock
        self._queues = queues
        self._is_idle = is_idle
        self._end = end
        self._unanswered = 0
        self._is_waiting = self._has_found = False
        links.on_down.append(self._again)

    def look(self) -> None:
        """Once a round."""
        link = self._links.tasks
        if self._is_waiting or link is None or not self._is_idle():
            return
        self._is_waiting = True
        self._unanswered, self._has_found = len(self._queues), False
        until_ms = self._clock.now_ms() + _SOON_MS
        for queue in self._queues:
            link.send(remaining(queue, until_ms), self._on_reply)

    def _on_reply(self, reply: Any) -> None:
        # What the store refuses to say now it may say the next time.
        self._has_found = self._has_found or isinstance(reply, ReplyError) or reply
        self._unanswered -= 1
        if self._unanswered:
            return
        if not self._has_found and self._is_idle():
            self._end()
        else:
            self._reactor.after(_PAUSE, self._again)

    def _again(self) -> None:
        self._is_waiting = False
