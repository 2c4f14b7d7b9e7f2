"""What a worker does for the queues beside running tasks: one small service each.

Any number of workers do this for the same queue; each script is harmless to repeat.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from nbqueue.broker import commands
from nbqueue.broker.commands import Command, Expired, Forwarded
from nbqueue.broker.resp import ReplyError
from nbqueue.clock import Clock
from nbqueue.wire.keys import queue_keys
from nbqueue.worker.finisher import Finisher
from nbqueue.worker.links import Links
from nbqueue.worker.reactor import Reactor, Timer

log = logging.getLogger("nbqueue.worker")

ATTEMPT_DAYS = 7


class Service:
    """Runs every ``interval`` seconds while the store is there, from the moment it is there."""

    def __init__(self, reactor: Reactor, links: Links, clock: Clock, interval: float) -> None:
        self._reactor = reactor
        self._links = links
        self._clock = clock
        self._interval = interval
        self._timer: Timer | None = None
        links.on_up.append(self._tick)
        links.on_down.append(self.stop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self.stop()
        self._timer = self._reactor.after(self._interval, self._tick)
        self.run_once()

    def run_once(self) -> None:
        """Do the work of one turn."""
        raise NotImplementedError

    def _send(self, command: Command[Any], on_reply: Callable[[Any], None]) -> None:
        link = self._links.upkeep
        if link is not None:
            link.send(command, lambda reply: on_reply(_checked(reply)))


def _checked(reply: Any) -> Any:
    if isinstance(reply, ReplyError):
        log.error("store refused maintenance error=%s", reply)
        return None
    return reply


class Heartbeat(Service):
    """Extends the leases of all tasks in hand."""

    def __init__(
        self, reactor: Reactor, links: Links, clock: Clock, finisher: Finisher, lease: float
    ) -> None:
        self._finisher = finisher
        self._lease_ms = int(lease * 1000)
        super().__init__(reactor, links, clock, lease / 6)

    def run_once(self) -> None:
        by_queue: dict[str, list[tuple[str, str]]] = {}
        for run in self._finisher.held.values():
            by_queue.setdefault(run.queue, []).append((run.task_id, run.fence))
        until = self._clock.now_ms() + self._lease_ms
        for queue, held in by_queue.items():
            for start in range(0, len(held), 500):
                part = held[start : start + 500]
                self._send(commands.extend(queue, part, until), _log_lost(queue, part))


def _log_lost(queue: str, part: list[tuple[str, str]]) -> Callable[[Any], None]:
    def read(refused: Any) -> None:
        for position in refused or ():
            log.debug("no lease to extend id=%s queue=%s", part[position][0], queue)

    return read


class Recoverer(Service):
    """Finds tasks whose lease ran out, in whoever's hands they were."""

    def __init__(
        self,
        reactor: Reactor,
        links: Links,
        clock: Clock,
        queues: list[str],
        on_expired: Callable[[str, Expired], None],
        interval: float = 2.0,
    ) -> None:
        self._queues = queues
        self._on_expired = on_expired
        super().__init__(reactor, links, clock, interval)

    def run_once(self) -> None:
        now_ms = self._clock.now_ms()
        for queue in self._queues:
            self._send(commands.expired(queue, now_ms), partial(self._on, queue))

    def _on(self, queue: str, found: list[Expired] | None) -> None:
        for task in found or ():
            self._on_expired(queue, task)


class Forwarder(Service):
    """Moves scheduled and retried tasks to pending when they are due.

    Looks when the next one is due that it knows of, which the scripts announce, and once a second
    for those of programs that announce nothing.
    """

    def __init__(
        self,
        reactor: Reactor,
        links: Links,
        clock: Clock,
        queues: list[str],
        look: Callable[[str], None],
    ) -> None:
        self._queues = queues
        self._look = look
        self._due: dict[str, Timer] = {}
        super().__init__(reactor, links, clock, 1.0)

    def stop(self) -> None:
        super().stop()
        for timer in self._due.values():
            timer.cancel()
        self._due.clear()

    def announced(self, queue: str, due_ms: int) -> None:
        """A task of ``queue`` will be due then."""
        seconds = max(0.0, (due_ms - self._clock.now_ms()) / 1000)
        if seconds > self._interval:
            return
        timer = self._due.get(queue)
        at = self._reactor.now() + seconds
        if timer is not None and timer.action is not None and timer.at <= at:
            return
        if timer is not None:
            timer.cancel()
        self._due[queue] = self._reactor.after(seconds, lambda: self._forward(queue))

    def run_once(self) -> None:
        for queue in self._queues:
            self._forward(queue)

    def _forward(self, queue: str) -> None:
        timer = self._due.pop(queue, None)
        if timer is not None:
            timer.cancel()
        self._send(
            commands.forward(queue, self._clock.now_ms()), lambda reply: self._on(queue, reply)
        )

    def _on(self, queue: str, reply: Forwarded | None) -> None:
        if reply is None:
            return
        if reply.moved:
            self._look(queue)
        if reply.next_due_ms is not None:
            # A millisecond more: the clock counts whole ones, and a round too early is one lost.
            self.announced(queue, reply.next_due_ms + 1)


class Janitor(Service):
    """Deletes what is over: completed tasks past their retention, old attempts."""

    def __init__(self, reactor: Reactor, links: Links, clock: Clock, queues: list[str]) -> None:
        self._queues = queues
        super().__init__(reactor, links, clock, 8.0)

    def run_once(self) -> None:
        for queue in self._queues:
            self._delete(queue)
            oldest = self._clock.now_ms() - ATTEMPT_DAYS * 86_400_000
            link = self._links.upkeep
            if link is not None:
                link.call(("XTRIM", queue_keys(queue).attempts, "MINID", "~", oldest))

    def _delete(self, queue: str) -> None:
        self._send(
            commands.delete_expired(queue, self._clock.now_ms()),
            lambda deleted: self._delete(queue) if deleted else None,
        )


class ClockKeeper(Service):
    """Measures again what time it is for the store."""

    def __init__(self, reactor: Reactor, links: Links, clock: Clock) -> None:
        super().__init__(reactor, links, clock, 60.0)

    def run_once(self) -> None:
        link = self._links.upkeep
        if link is None:
            return
        sent_at = time.monotonic()

        def read(reply: Any) -> None:
            if not isinstance(reply, ReplyError):
                seconds = int(reply[0]) + int(reply[1]) / 1e6
                self._clock.measured(sent_at, time.monotonic(), seconds)

        link.call(("TIME",), read)
