"""What a worker does for queues that it does not serve, and for tasks that nobody holds."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial

from nbqueue.broker.commands import lifecycle, limits, presence
from nbqueue.broker.commands.lifecycle import Expired
from nbqueue.broker.commands.presence import Adopted, Overdue
from nbqueue.clock import Clock
from nbqueue.runtime.reactor import Reactor
from nbqueue.store.rights import is_about_keys
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.keys import QUEUES, is_queue_name, queue_keys
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.maintenance.cancelled_in_go import CancelFollower
from nbqueue.worker.maintenance.service import ATTEMPT_DAYS, Part, Service, checked
from nbqueue.worker.store_refusals import refused

log = logging.getLogger("nbqueue.worker")

_SLICE = 500
_MOST_SLICES = 40
_MOST_VISITS = 200


class LeaseRepair(Part):
    """Gives active tasks without a lease one that has run out: the recoverer then finds them.

    Each time a slice of a queue's list; the next time goes on from there.
    """

    def __init__(self, reactor: Reactor, links: WorkerConnections, clock: Clock) -> None:
        super().__init__(reactor, links, clock)
        self._starts: dict[str, int] = {}

    def adopt(self, queue: str) -> None:
        """Look at the next slice of ``queue``."""
        start = self._starts.get(queue, 0)
        command = presence.adopt(queue, self._clock.now_ms(), start, _SLICE)
        self._send(command, partial(self._on, queue, start))

    def _on(self, queue: str, start: int, reply: Adopted | None) -> None:
        if reply is None:
            return
        if reply.adopted:
            log.warning("tasks found without a lease queue=%s tasks=%d", queue, reply.adopted)
        if reply.seen < _SLICE:
            self._starts.pop(queue, None)
        else:
            self._starts[queue] = start + reply.seen


class UnservedQueues(Service):
    """Tends the queues that exist and that this worker does not serve, each every five seconds.

    One script says what there is to do, which mostly is nothing. With more than a thousand of them
    each comes round less often, and they cost no more.
    """

    def __init__(
        self,
        reactor: Reactor,
        links: WorkerConnections,
        clock: Clock,
        queues: Sequence[str],
        adopter: LeaseRepair,
        cancelled: CancelFollower,
        on_expired: Callable[[str, Expired], None],
        on_schedules: Callable[[str], None],
        round_seconds: float = 5.0,
    ) -> None:
        self._served = queues
        self._adopter = adopter
        self._cancelled = cancelled
        self._on_expired = on_expired
        self._on_schedules = on_schedules
        self._round_seconds = round_seconds
        self._others: list[str] = []
        self._next = 0
        self._turn = 0
        self._denied: set[str] = set()
        """Queues that our user may not touch, since the store is there."""
        self._said: set[str] = set()
        super().__init__(reactor, links, clock, 1.0)

    def stop(self) -> None:
        super().stop()
        self._turn = 0
        self._denied.clear()

    def run_once(self) -> None:
        link = self._links.upkeep
        if link is not None and self._turn % 10 == 0:
            link.call(("SMEMBERS", QUEUES), self._on_names)
        self._turn += 1
        self._visit_some()

    def _on_names(self, reply: object) -> None:
        if not isinstance(reply, list):
            if isinstance(reply, ReplyError):
                refused("to name the queues", reply)
            return
        is_first = not self._others
        names = (name.decode("utf-8", "replace") for name in reply)
        self._others = sorted(name for name in names if is_queue_name(name))
        if is_first:
            self._visit_some()

    def _visit_some(self) -> None:
        count = math.ceil(len(self._others) / self._round_seconds)
        for _ in range(min(count, _MOST_VISITS)):
            self._next = (self._next + 1) % len(self._others)
            queue = self._others[self._next]
            if queue not in self._served and queue not in self._denied:
                self._visit(queue)

    def _visit(self, queue: str) -> None:
        command = presence.overdue(queue, self._clock.now_ms(), self._oldest_ms())
        link = self._links.upkeep
        if link is not None:
            link.send(command, partial(self._on_visited, queue))

    def _on_visited(self, queue: str, reply: object) -> None:
        if isinstance(reply, ReplyError) and reply.reason == "NOPERM" and is_about_keys(str(reply)):
            self._denied.add(queue)
            if queue not in self._said:
                self._said.add(queue)
                log.info(
                    "queue is left alone, as its keys are denied queue=%s error=%s", queue, reply
                )
            return
        self._on_overdue(queue, checked(reply))

    def _oldest_ms(self) -> int:
        return self._clock.now_ms() - ATTEMPT_DAYS * 86_400_000

    def _on_overdue(self, queue: str, found: Overdue | None) -> None:
        if found is None:
            return
        if found.due:
            self._forward(queue, _MOST_SLICES)
        if found.expired:
            command = lifecycle.expired(queue, self._clock.now_ms())
            self._send(command, partial(self._on_found, queue))
        if found.orphans:
            self._adopter.adopt(queue)
        if found.waiting:
            # Programs in Go may serve it, which know nothing of parked tasks.
            self._send(limits.judge(queue, self._clock.now_ms()), lambda reply: None)
        if found.schedules:
            # Its workers may all be programs in Go, whose schedulers know nothing of these.
            self._on_schedules(queue)
        if found.cancels:
            self._cancelled.follow(queue)
        if found.over:
            self._delete(queue, _MOST_SLICES)
        link = self._links.upkeep
        if found.old_attempts and link is not None:
            link.call(("XTRIM", queue_keys(queue).attempts, "MINID", "~", self._oldest_ms()))

    def _on_found(self, queue: str, found: list[Expired] | None) -> None:
        for task in found or ():
            self._on_expired(queue, task)

    def _forward(self, queue: str, slices: int) -> None:
        self._send(
            lifecycle.forward(queue, self._clock.now_ms()),
            lambda reply: (
                self._forward(queue, slices - 1) if reply and reply.moved and slices else None
            ),
        )

    def _delete(self, queue: str, slices: int) -> None:
        self._send(
            lifecycle.delete_expired(queue, self._clock.now_ms()),
            lambda deleted: self._delete(queue, slices - 1) if deleted and slices else None,
        )
