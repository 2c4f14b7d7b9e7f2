"""Says when there is something to tend in the queues that a worker serves.

One script looks at a queue, and whoever has something to do there is called when its time has come.
The server is asked to tell when a key changes that the script read (``CLIENT TRACKING``), whoever
changes it, programs in Go as well; then it is looked at again. As long as nothing happens, that is
all. A server that was not yet seen to tell, or a proxy that does not let it, is asked every second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nbqueue.broker.next_due import NextDue, upcoming
from nbqueue.clock import Clock
from nbqueue.runtime.reactor import Reactor
from nbqueue.wire.decoding import text
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.maintenance.aggregation_recovery import AggregationRecovery
from nbqueue.worker.maintenance.cancelled_in_go import CancelFollower
from nbqueue.worker.maintenance.parked_tasks import ParkedTasks
from nbqueue.worker.maintenance.service import (
    Alarms,
    Forwarder,
    Janitor,
    Recoverer,
    Service,
    checked,
)
from nbqueue.worker.maintenance.unserved_queues import LeaseRepair

LOOK_SECONDS, FORWARD_SECONDS = 2.0, 1.0
"""How often a queue is looked at, and its due tasks are, while the server tells of no changes."""

TOLD_SECONDS, LONGEST_SECONDS = 10.0, 30.0
"""How often it is looked at all the same when the server tells: the first for each queue, together,
but none less often than the second."""

_GAP = 1.0


@dataclass(frozen=True)
class Tended:
    """Those who are called. ``schedules(queue)``: there are some in this queue;
    ``requirements(queue, requirements)``: tasks of this queue are parked for these."""

    forwarder: Forwarder
    judge: ParkedTasks
    recoverer: Recoverer
    janitor: Janitor
    adopter: LeaseRepair
    reclaimer: AggregationRecovery
    cancelled: CancelFollower
    schedules: Callable[[str], None]
    requirements: Callable[[str, Iterable[bytes]], None]


class QueueWatcher(Service):
    """See the module. ``sign`` is a key that this worker writes again and again: once the server
    has told that it changed, it is believed to tell."""

    def __init__(
        self,
        reactor: Reactor,
        links: WorkerConnections,
        clock: Clock,
        queues: Sequence[str],
        sign: str,
        tended: Tended,
    ) -> None:
        self._queues = queues
        self._sign = sign
        self._tended = tended
        self._is_tracking = False
        self._is_told = False
        self._looks = Alarms(reactor, links, clock, self._look, gap=_GAP)
        super().__init__(reactor, links, clock, FORWARD_SECONDS)
        links.on_tracking = self._on_tracking
        links.on_changed = self._on_changed

    def stop(self) -> None:
        super().stop()
        self._is_tracking = self._is_told = False
        self._interval = FORWARD_SECONDS

    def run_once(self) -> None:
        for queue in self._queues:
            if not self._looks.is_set(queue):
                self._looks.ring(queue)
            elif not self._is_told:
                self._tended.forwarder.alarms.ring(queue)

    def _look(self, queue: str) -> None:
        if queue not in self._queues:
            return
        link = self._links.upkeep
        if link is not None:
            link.send(
                upcoming(queue),
                lambda reply: self._on_upcoming(queue, checked(reply)),
                is_tracked=self._is_tracking,
            )
        self._look_after(queue, self._pause())

    def _look_after(self, queue: str, seconds: float) -> None:
        self._looks.set(queue, self._clock.now_ms() + int(seconds * 1000))

    def _pause(self) -> float:
        if not self._is_told:
            return LOOK_SECONDS
        return min(TOLD_SECONDS * len(self._queues), LONGEST_SECONDS)

    def _on_upcoming(self, queue: str, found: NextDue | None) -> None:
        if found is None:
            return
        tended = self._tended
        for part, at in (
            (tended.forwarder, found.due_ms),
            (tended.judge, found.waiting_ms),
            (tended.recoverer, found.lease_ms),
            (tended.janitor, found.over_ms),
        ):
            if at is not None:
                part.alarms.set(queue, at)
        tended.reclaimer.note(queue, found.sets)
        if found.schedules:
            tended.schedules(queue)
        if found.requirements:
            tended.requirements(queue, found.requirements)
        if found.cancels:
            tended.cancelled.follow(queue)
        if found.orphans:
            tended.adopter.adopt(queue)
        is_late = found.lease_ms is not None and found.lease_ms <= self._clock.now_ms()
        if found.orphans or is_late:
            # It may be one of a program in Go, which is left alone for a while; who is next?
            self._look_after(queue, LOOK_SECONDS)

    # --- What the server tells ---

    def _on_tracking(self) -> None:
        self._is_tracking = True
        link = self._links.upkeep
        if link is not None:
            link.call(("CLIENT", "CACHING", "YES"))
            link.call(("EXISTS", self._sign))

    def _on_changed(self, keys: object) -> None:
        """These keys changed; None: all of them. Anybody may have published what is no list."""
        if keys is None:
            changed = set(self._queues)
        elif not isinstance(keys, list):
            return
        else:
            names = [text(key) for key in keys if isinstance(key, bytes)]
            if self._sign in names and not self._is_told:
                self._is_told = True
                self._interval = LONGEST_SECONDS
                changed = set(self._queues)
            else:
                changed = {name.partition("{")[2].partition("}")[0] for name in names}
        for queue in changed.intersection(self._queues):
            self._look_after(queue, 0.0)
