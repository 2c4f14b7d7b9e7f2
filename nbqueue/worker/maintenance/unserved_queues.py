"""Maintain queues that this worker does not serve.

That is the upkeep of dead workers' tasks, of leases, and of cancellations.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from nbqueue.broker.commands import limits, maintenance
from nbqueue.broker.commands.maintenance import Overdue
from nbqueue.store.rights import is_about_keys
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.keys import QUEUES, is_queue_name, queue_keys
from nbqueue.worker.maintenance.cancelled_in_go import CancelFollower
from nbqueue.worker.maintenance.lease_repair import LeaseRepair
from nbqueue.worker.maintenance.recoverer import Recoverer
from nbqueue.worker.maintenance.service import ATTEMPT_DAYS, Service, checked
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused

log = logging.getLogger("nbqueue.worker")

_ROUND_SECONDS = 5.0
_LIST_EVERY = 10
_MOST_SLICES = 40
_MOST_VISITS = 200


@dataclass(frozen=True)
class UnservedServices:
    """The services that `UnservedQueues` calls. ``schedules(queue)``: it has some."""

    recoverer: Recoverer
    lease_repair: LeaseRepair
    cancelled: CancelFollower
    schedules: Callable[[str], None]


class UnservedQueues(Service):
    """Visits each existing queue that this worker does not serve, every five seconds.

    One script returns the needs of a queue, mostly none. With more than a thousand queues
    each is visited less often, at the same cost.
    """

    def __init__(self, context: ServiceContext, services: UnservedServices) -> None:
        self._served = context.queues.weights
        self._services = services
        self._names: list[str] = []
        self._next = 0
        self._turn = 0
        self._denied: set[str] = set()
        """Queues denied to the user, as known since the store was connected."""
        self._logged: set[str] = set()
        super().__init__(context, 1.0)

    def stop(self) -> None:
        super().stop()
        self._turn = 0
        self._denied.clear()

    def run_once(self) -> None:
        if self._turn % _LIST_EVERY == 0:
            self._connections.registry().call(("SMEMBERS", QUEUES), self._on_names)
        self._turn += 1
        self._visit_some()

    def _on_names(self, reply: object) -> None:
        if not isinstance(reply, list):
            if isinstance(reply, ReplyError):
                refused("to name the queues", reply)
            return
        is_first = not self._names
        names = (name.decode("utf-8", "replace") for name in reply)
        self._names = sorted(name for name in names if is_queue_name(name))
        if is_first:
            self._visit_some()

    def _visit_some(self) -> None:
        count = math.ceil(len(self._names) / _ROUND_SECONDS)
        for _ in range(min(count, _MOST_VISITS)):
            self._next = (self._next + 1) % len(self._names)
            queue = self._names[self._next]
            if queue not in self._served and queue not in self._denied:
                self._visit(queue)

    def _visit(self, queue: str) -> None:
        command = maintenance.overdue(queue, self._clock.now_ms(), self._oldest_ms())
        self._connections.upkeep(queue).send(command, partial(self._on_visited, queue))

    def _on_visited(self, queue: str, reply: object) -> None:
        if isinstance(reply, ReplyError) and reply.reason == "NOPERM" and is_about_keys(str(reply)):
            self._denied.add(queue)
            if queue not in self._logged:
                self._logged.add(queue)
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
        services = self._services
        if found.due:
            self._forward(queue, _MOST_SLICES)
        if found.expired:
            services.recoverer.recover(queue)
        if found.orphans:
            services.lease_repair.repair(queue)
        if found.waiting:
            # Its workers may all be programs in Go, which ignore parked tasks.
            self._send(queue, limits.release_parked(queue, self._clock.now_ms()))
        if found.schedules:
            # Their schedulers ignore these schedules, too.
            services.schedules(queue)
        if found.cancels:
            services.cancelled.follow(queue)
        if found.over:
            self._delete(queue, _MOST_SLICES)
        if found.old_attempts:
            self._connections.upkeep(queue).call(
                ("XTRIM", queue_keys(queue).attempts, "MINID", "~", self._oldest_ms())
            )

    def _forward(self, queue: str, slices: int) -> None:
        self._send(
            queue,
            maintenance.forward(queue, self._clock.now_ms()),
            lambda reply: (
                self._forward(queue, slices - 1) if reply and reply.moved and slices else None
            ),
        )

    def _delete(self, queue: str, slices: int) -> None:
        self._send(
            queue,
            maintenance.delete_expired(queue, self._clock.now_ms()),
            lambda deleted: self._delete(queue, slices - 1) if deleted and slices else None,
        )
