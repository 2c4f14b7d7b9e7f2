"""What a worker does for the queues beside running tasks: one small part each.

Any number of workers do this for the same queue; each script is harmless to repeat. When there is
something to do for a queue, `nbqueue.worker.maintenance.queue_watcher` says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.lifecycle import Command, Expired, Forwarded
from nbqueue.broker.commands.limits import Judged
from nbqueue.clock import Clock, steady_time
from nbqueue.runtime.reactor import Reactor, Timer
from nbqueue.store.connection import Store
from nbqueue.transport.blocking import BlockingConnection
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.keys import queue_keys
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.executors.pool import Pool
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.leases import HeldTasks

log = logging.getLogger("nbqueue.worker")

ATTEMPT_DAYS = 7

_HORIZON = 60.0
"""What is later than this many seconds gets no timer: looks come sooner than that."""


class Part:
    """Something that keeps order: it knows the time, and may ask the store."""

    def __init__(self, reactor: Reactor, links: WorkerConnections, clock: Clock) -> None:
        self._reactor = reactor
        self._links = links
        self._clock = clock

    def _send(self, command: Command[Any], on_reply: Callable[[Any], None]) -> None:
        link = self._links.upkeep
        if link is not None:
            link.send(command, lambda reply: on_reply(checked(reply)))


class Service(Part):
    """Runs every ``interval`` seconds while the store is there, from the moment it is there."""

    def __init__(
        self, reactor: Reactor, links: WorkerConnections, clock: Clock, interval: float
    ) -> None:
        super().__init__(reactor, links, clock)
        self._interval = interval
        self._timer: Timer | None = None
        links.on_up.append(self._tick)
        links.on_down.append(self.stop)

    def stop(self) -> None:
        """Run no more, until the store is there again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        # Not `stop`, in which parts forget what they know once the store is away.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.after(self._interval, self._tick)
        self.run_once()

    def run_once(self) -> None:
        """Do the work of one turn."""
        raise NotImplementedError


class Alarms(Part):
    """Calls ``action`` for a queue when the time has come that was set for it.

    Of several times the first counts. Between two calls for a queue lie at least ``gap`` seconds.
    """

    def __init__(
        self,
        reactor: Reactor,
        links: WorkerConnections,
        clock: Clock,
        action: Callable[[str], None],
        gap: float = 0.0,
    ) -> None:
        super().__init__(reactor, links, clock)
        self._action = action
        self._gap = gap
        self._timers: dict[str, Timer] = {}
        self._rang_at: dict[str, float] = {}
        links.on_down.append(self.stop)

    def stop(self) -> None:
        """Forget what was set."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._rang_at.clear()

    def is_set(self, queue: str) -> bool:
        """Whether there is a time that was set for ``queue``."""
        return queue in self._timers

    def set(self, queue: str, due_ms: int) -> None:
        """Call for ``queue`` then (Unix ms), or at once if that is past."""
        seconds = (due_ms - self._clock.now_ms()) / 1000
        if seconds > _HORIZON:
            return  # it is asked about again before
        now = self._reactor.now()
        at = max(now, now + seconds, self._rang_at.get(queue, now - self._gap) + self._gap)
        timer = self._timers.get(queue)
        if timer is not None:
            if timer.at <= at:
                return
            timer.cancel()
        self._timers[queue] = self._reactor.after(at - now, lambda: self.ring(queue))

    def ring(self, queue: str) -> None:
        """Call for ``queue`` now."""
        timer = self._timers.pop(queue, None)
        if timer is not None:
            timer.cancel()
        if self._links.upkeep is not None:
            self._rang_at[queue] = self._reactor.now()
            self._action(queue)


def checked(reply: Any) -> Any:
    """``reply``; None, and a line in the log, if the store refused."""
    if isinstance(reply, ReplyError):
        refused("maintenance", reply)
        return None
    return reply


class Heartbeat(Service):
    """Extends the leases of all tasks in hand; drops what was lost before it began."""

    def __init__(
        self,
        reactor: Reactor,
        links: WorkerConnections,
        clock: Clock,
        held: HeldTasks,
        pool: Pool,
        lease: float,
    ) -> None:
        self._held = held
        self._pool = pool
        self._lease_ms = int(lease * 1000)
        pool.on_unsure = self.run_once
        pool.on_not_ours = self._forget
        super().__init__(reactor, links, clock, lease / 6)

    def run_once(self) -> None:
        now_ms = self._clock.now_ms()
        for queue, runs in self._held.by_queue().items():
            for start in range(0, len(runs), 500):
                part = runs[start : start + 500]
                held = [(run.task_id, run.fence) for run in part]
                self._send(
                    lifecycle.extend(queue, held, now_ms + self._lease_ms),
                    partial(self._on_extended, part, now_ms),
                )

    def _on_extended(self, part: list[Attempt], sent_ms: int, refused: list[int] | None) -> None:
        if refused is None:
            return
        for position in refused:
            run = part[position]
            log.debug("no lease to extend id=%s queue=%s", run.task_id, run.queue)
            run.is_lost = True
            if self._pool.drop_lost(run):
                self._forget(run)
        for run in part:
            run.leased_ms = sent_ms
        self._pool.renewed()

    def _forget(self, run: Attempt) -> None:
        log.warning(
            "task not begun, as its lease was lost id=%s type=%s queue=%s",
            *(run.task_id, run.message.type, run.queue),
        )
        self._held.remove(run)


class Recoverer(Part):
    """Finds tasks whose lease ran out, in whoever's hands they were."""

    def __init__(
        self,
        reactor: Reactor,
        links: WorkerConnections,
        clock: Clock,
        on_expired: Callable[[str, Expired], None],
    ) -> None:
        super().__init__(reactor, links, clock)
        self._on_expired = on_expired
        self.alarms = Alarms(reactor, links, clock, self._recover, gap=1.0)

    def _recover(self, queue: str) -> None:
        self._send(lifecycle.expired(queue, self._clock.now_ms()), partial(self._on, queue))

    def _on(self, queue: str, found: list[Expired] | None) -> None:
        for task in found or ():
            self._on_expired(queue, task)


class Forwarder(Part):
    """Moves scheduled and retried tasks to pending when they are due.

    Looks when the next one is due that it knows of, which the scripts announce. Programs in Go
    announce nothing: while the store does not tell of changes it asks once a second for theirs.
    """

    def __init__(
        self, reactor: Reactor, links: WorkerConnections, clock: Clock, look: Callable[[str], None]
    ) -> None:
        super().__init__(reactor, links, clock)
        self._look = look
        self.alarms = Alarms(reactor, links, clock, self._forward)

    def _forward(self, queue: str) -> None:
        self._send(
            lifecycle.forward(queue, self._clock.now_ms()), lambda reply: self._on(queue, reply)
        )

    def _on(self, queue: str, reply: Forwarded | Judged | None) -> None:
        if reply is None:
            return
        if reply.moved:
            self._look(queue)
        if reply.next_due_ms is not None:
            # A millisecond more: the clock counts whole ones, and a round too early is one lost.
            self.alarms.set(queue, reply.next_due_ms + 1)


class Janitor(Service):
    """Deletes what is over: completed tasks past their retention, old attempts."""

    def __init__(
        self, reactor: Reactor, links: WorkerConnections, clock: Clock, queues: list[str]
    ) -> None:
        self._queues = queues
        self.alarms = Alarms(reactor, links, clock, self._delete, gap=8.0)
        super().__init__(reactor, links, clock, 60.0)

    def run_once(self) -> None:
        link = self._links.upkeep
        if link is None:
            return
        oldest = self._clock.now_ms() - ATTEMPT_DAYS * 86_400_000
        for queue in self._queues:
            link.call(("XTRIM", queue_keys(queue).attempts, "MINID", "~", oldest))

    def _delete(self, queue: str) -> None:
        self._send(
            lifecycle.delete_expired(queue, self._clock.now_ms()),
            lambda deleted: self._delete(queue) if deleted else None,
        )


class ClockKeeper(Service):
    """Measures again what time it is for the store."""

    def __init__(self, reactor: Reactor, links: WorkerConnections, clock: Clock) -> None:
        super().__init__(reactor, links, clock, 60.0)

    def run_once(self) -> None:
        link = self._links.upkeep
        if link is None:
            return
        sent_at = steady_time()

        def read(reply: Any) -> None:
            if not isinstance(reply, ReplyError):
                seconds = int(reply[0]) + int(reply[1]) / 1e6
                self._clock.measured(sent_at, steady_time(), seconds)

        link.call(("TIME",), read)


def set_clock(store: Store, clock: Clock) -> None:
    """Ask what time it is, before there is anything else to do, which would make the answer seem
    late."""
    channel = BlockingConnection(store)
    for _ in range(3):
        sent_at = steady_time()
        [(seconds, micros)] = channel.call(("TIME",))
        clock.measured(sent_at, steady_time(), int(seconds) + int(micros) / 1e6)
    channel.close()
