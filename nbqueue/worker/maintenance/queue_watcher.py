"""Find out the needs of the served queues, and call the services in time.

One script looks at a queue. The server is asked to report when a key changes that the script read
(``CLIENT TRACKING``), also when programs in Go change it; then the script runs again. While nothing
changes, nothing is asked. Until the server has reported a change, or where a proxy prevents that,
each queue is checked every second or two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nbqueue.broker.commands.presence import info_key
from nbqueue.broker.next_due import NextDue, upcoming
from nbqueue.wire.decoding import text
from nbqueue.worker.maintenance.cancelled_in_go import CancelFollower
from nbqueue.worker.maintenance.forwarder import Forwarder
from nbqueue.worker.maintenance.janitor import Janitor
from nbqueue.worker.maintenance.lease_repair import LeaseRepair
from nbqueue.worker.maintenance.parked_tasks import ParkedTasks
from nbqueue.worker.maintenance.recoverer import Recoverer
from nbqueue.worker.maintenance.service import QueueTimers, Service, checked
from nbqueue.worker.scheduling.aggregation_recovery import AggregationRecovery
from nbqueue.worker.service_context import ServiceContext

LOOK_SECONDS, FORWARD_SECONDS = 2.0, 1.0
"""Seconds between two looks at a queue while the server reports no changes.

The second is the interval at which due tasks are forwarded.
"""

REPORTED_SECONDS, LONGEST_SECONDS = 10.0, 30.0
"""Seconds between two looks at a queue while the server reports changes.

The first is multiplied by the number of queues; the second is the maximum.
"""

_GAP = 1.0


@dataclass(frozen=True)
class WatchedServices:
    """The services that `QueueWatcher` calls.

    ``schedules(queue)``: the queue has some. ``requirements(queue, requirements)``: tasks of the
    queue are parked for these.
    """

    forwarder: Forwarder
    parked_tasks: ParkedTasks
    recoverer: Recoverer
    janitor: Janitor
    lease_repair: LeaseRepair
    aggregation_recovery: AggregationRecovery
    cancelled: CancelFollower
    schedules: Callable[[str], None]
    requirements: Callable[[str, Iterable[bytes]], None]


class QueueWatcher(Service):
    """Looks at each served queue when it changed, and calls ``services``.

    The worker's own record changes every few seconds. Once the server has reported a change of it,
    it is trusted to report all changes.
    """

    def __init__(self, context: ServiceContext, services: WatchedServices) -> None:
        self._queues = context.queues.names
        self._own_record = info_key(context.worker_id)
        self._services = services
        self._is_tracking = False
        self._is_reporting = False
        self._looks = QueueTimers(context, self._look, gap=_GAP)
        super().__init__(context, FORWARD_SECONDS)
        context.connections.on_tracking.append(self._on_tracking)
        context.connections.on_changed.append(self._on_changed)

    def stop(self) -> None:
        super().stop()
        self._is_tracking = self._is_reporting = False
        self._interval = FORWARD_SECONDS

    def run_once(self) -> None:
        for queue in self._queues:
            if not self._looks.is_set(queue):
                self._looks.run_now(queue)
            elif not self._is_reporting:
                self._services.forwarder.timers.run_now(queue)

    def _look(self, queue: str) -> None:
        if queue not in self._queues:
            return
        self._connections.upkeep(queue).send(
            upcoming(queue),
            lambda reply: self._on_upcoming(queue, checked(reply)),
            is_tracked=self._is_tracking,
        )
        self._look_after(queue, self._pause())

    def _look_after(self, queue: str, seconds: float) -> None:
        self._looks.set(queue, self._clock.now_ms() + int(seconds * 1000))

    def _pause(self) -> float:
        if not self._is_reporting:
            return LOOK_SECONDS
        return min(REPORTED_SECONDS * len(self._queues), LONGEST_SECONDS)

    def _on_upcoming(self, queue: str, found: NextDue | None) -> None:
        if found is None:
            return
        services = self._services
        for timers, due_ms in (
            (services.forwarder.timers, found.due_ms),
            (services.parked_tasks.timers, found.waiting_ms),
            (services.recoverer.timers, found.lease_ms),
            (services.janitor.timers, found.over_ms),
        ):
            if due_ms is not None:
                timers.set(queue, due_ms)
        services.aggregation_recovery.note(queue, found.sets)
        if found.schedules:
            services.schedules(queue)
        if found.requirements:
            services.requirements(queue, found.requirements)
        if found.cancels:
            services.cancelled.follow(queue)
        if found.orphans:
            services.lease_repair.repair(queue)
        is_late = found.lease_ms is not None and found.lease_ms <= self._clock.now_ms()
        if found.orphans or is_late:
            # The first expired lease may be of a program in Go, which is given more time. It hides
            # the lease that expires next, so look again.
            self._look_after(queue, LOOK_SECONDS)

    # --- Changes that the server reports ---

    def _on_tracking(self) -> None:
        self._is_tracking = True
        connection = self._connections.registry(self._own_record)
        connection.call(("CLIENT", "CACHING", "YES"))
        connection.call(("EXISTS", self._own_record))

    def _on_changed(self, keys: object) -> None:
        """Look at the queues of these keys; None means all keys.

        Any program may publish on the channel, so anything but a list is ignored.
        """
        if keys is None:
            changed = set(self._queues)
        elif not isinstance(keys, list):
            return
        else:
            names = [text(key) for key in keys if isinstance(key, bytes)]
            if self._own_record in names and not self._is_reporting:
                self._is_reporting = True
                self._interval = LONGEST_SECONDS
                changed = set(self._queues)
            else:
                changed = {name.partition("{")[2].partition("}")[0] for name in names}
        for queue in changed.intersection(self._queues):
            self._look_after(queue, 0.0)
