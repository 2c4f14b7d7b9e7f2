"""A worker in a burst: it ends when nothing is left to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbqueue.broker.resp import ReplyError
from nbqueue.clock import Clock
from nbqueue.wire.keys import queue_keys
from nbqueue.worker.links import Links
from nbqueue.worker.reactor import Reactor

_PAUSE = 0.1


class Burst:
    """Asks the store whether its queues are empty, whenever the worker has nothing in hand.

    Empty is a queue without pending tasks, and with none scheduled or to be tried again that is due
    by the end of this second; and one that is paused. What other workers run is theirs.
    """

    def __init__(
        self,
        reactor: Reactor,
        links: Links,
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
        self._left = 0
        self._found = 0
        self._is_waiting = self._is_paused = False
        links.on_down.append(self._again)

    def look(self) -> None:
        """Once a round."""
        link = self._links.tasks
        if self._is_waiting or link is None or not self._is_idle():
            return
        self._is_waiting = True
        until = self._clock.now_ms() // 1000 + 1
        self._found, self._left = 0, 0
        for queue in self._queues:
            keys = queue_keys(queue)
            self._left += 4
            link.call(("EXISTS", keys.paused), self._on_paused)
            link.call(("LLEN", keys.pending), self._on_pending)
            for due in (keys.scheduled, keys.retry):
                link.call(("ZCOUNT", due, "-inf", until), self._on_count)

    def _on_paused(self, reply: Any) -> None:
        self._is_paused = reply == 1
        self._on_count(0)

    def _on_pending(self, reply: Any) -> None:
        self._on_count(0 if self._is_paused else reply)

    def _on_count(self, reply: Any) -> None:
        # What the store refuses to say now it may say the next time.
        self._found += 1 if isinstance(reply, ReplyError) else reply
        self._left -= 1
        if self._left:
            return
        if not self._found and self._is_idle():
            self._end()
        else:
            self._reactor.after(_PAUSE, self._again)

    def _again(self) -> None:
        self._is_waiting = False
