"""Fetch tasks: the order of queues, the number of tasks, the time."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.lifecycle import Fetched, Handed
from nbqueue.broker.commands.limits import Full
from nbqueue.broker.commands.requirements import fetch_required
from nbqueue.broker.staging import read_message_of
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.keys import queue_keys
from nbqueue.worker.executors.load_estimate import LoadEstimate
from nbqueue.worker.executors.waiting_attempts import WaitingAttempts
from nbqueue.worker.scheduling.aggregator import Aggregator
from nbqueue.worker.server_connections import WAIT_SECONDS
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks.handoff import MOST_OFFERS, Handoff
from nbqueue.worker.tasks.large_arguments import LargeArguments
from nbqueue.worker.tasks.leases import LeaseTokens
from nbqueue.worker.tasks.required_workers import RequiredTasks
from nbqueue.worker.tasks.task_acceptor import TaskAcceptor

log = logging.getLogger("nbqueue.worker")

MOST_AT_ONCE = 256
_PAUSED_LOOK = 1.0
_REFUSED_LOOK = 0.5
_FULL_LOOK = 1.0
_OFFER_SECONDS = 0.5
"""Seconds during which offers are made after a slot became free."""


class QueueOrder:
    """The order in which queues are asked.

    Strictly: by falling weight. Otherwise a random order each time, in which a queue of weight 6
    comes before one of weight 3 twice as often as behind it.
    """

    def __init__(self, weights: Mapping[str, int], strict: bool) -> None:
        self._is_strict = strict
        self.change(weights)

    def change(self, weights: Mapping[str, int]) -> None:
        """Replace the queues and their weights."""
        self.weights = dict(weights)
        self._names = sorted(weights, key=lambda name: -weights[name])

    def next(self) -> list[str]:
        """Return the queues in the order for the next fetch."""
        if self._is_strict or len(self._names) == 1:
            return self._names
        # The largest of w-th roots of random numbers: a weighted order without replacement.
        return sorted(self._names, key=lambda name: -(random.random() ** (1 / self.weights[name])))


class Slots:
    """The slots of a worker, and the number of free ones."""

    def __init__(
        self,
        concurrency: int,
        waiting: WaitingAttempts,
        load: LoadEstimate,
        large_arguments: LargeArguments,
        aggregator: Aggregator,
    ) -> None:
        self._concurrency = concurrency
        self._waiting = waiting
        self._load = load
        self._large_arguments = large_arguments
        self._aggregator = aggregator

    def free(self) -> int:
        """Return the number of free slots; negative with tasks fetched ahead."""
        free = self._concurrency - self._waiting.in_hand - len(self._large_arguments.under_way)
        return free - self._aggregator.reserved if self._aggregator.enabled else free

    def room(self) -> int:
        """Return the number of tasks to fetch: more than the free slots if tasks are short."""
        return self.free() + self._load.ahead(self._concurrency)


class Fetcher:
    """Fetches as many tasks as there are free slots, queue by queue.

    A queue that gave fewer tasks than it was asked for is empty. It is not asked again before a
    blocking command of the connection that waits on it returns. Parked tasks that ``required``
    names go before the pending ones of their queue.
    """

    def __init__(
        self,
        context: ServiceContext,
        tokens: LeaseTokens,
        order: QueueOrder,
        slots: Slots,
        acceptor: TaskAcceptor,
        required: RequiredTasks,
    ) -> None:
        self._reactor = context.reactor
        self._connections = context.connections
        self._clock = context.clock
        self._tokens = tokens
        self._offers = Handoff(context, tokens, self._on_handed)
        self._last_queue = ""
        """The queue of the last task."""
        self._was_free = 0
        self._freed_at = 0.0
        self.order = order
        self._slots = slots
        self._acceptor = acceptor
        self.required = required
        self._filled: set[str] = set()
        self._waiting: set[str] = set()
        self._woken: set[str] = set()
        """Queues with a task announced since they were last asked."""
        self._later: set[str] = set()
        self._idle: set[str] = set()
        """Queues that recently became empty."""
        self._asking = False
        self._unread = 0
        """The number of held tasks whose messages are being read."""
        self.enabled = True
        context.connections.on_up.append(self._on_up)
        context.connections.on_down.append(self._on_down)

    @property
    def is_asking(self) -> bool:
        """True if tasks may be on their way here."""
        is_coming = self.enabled and (self.required.is_asking or bool(self.required.known))
        return self._asking or self._unread > 0 or self._offers.is_unsettled or is_coming

    def close(self) -> None:
        """Fetch no more, and withdraw all offers."""
        self.enabled = False
        self._offers.withdraw()

    def look(self, queue: str) -> None:
        """Ask ``queue`` in the next round: it may have a task."""
        if queue in self.order.weights:
            self._filled.add(queue)
            self._woken.add(queue)

    def forget(self, queue: str) -> None:
        """Forget ``queue``, which is not served any more."""
        for known in (self._filled, self._waiting, self._idle):
            known.discard(queue)
        if queue == self._last_queue:
            self._last_queue = ""
            self._offers.withdraw()

    def fetch(self) -> None:
        """Ask for tasks if slots are free.

        Once a round, where a queue may have some.
        """
        if self._asking or not self.enabled:
            return
        filled, parked = self._filled, self.required.known
        if not (filled or parked):
            return
        limit = min(self._slots.room() - self._unread, MOST_AT_ONCE)
        if limit <= 0:
            return
        for queue in self.order.next():
            if queue in filled or queue in parked:
                connection = self._connections.tasks(queue)
                if connection.is_up:
                    break
        else:
            return
        # The free slots are for the tasks that are asked for now.
        self._offers.withdraw()
        now_ms = self._clock.now_ms()
        token = self._tokens.new(now_ms)
        lease_until_ms = now_ms + self._tokens.lease_ms
        self._asking = True
        if queue in parked:
            requirement = next(iter(parked[queue]))
            self.required.discard(queue, requirement)
            connection.send(
                fetch_required(queue, requirement, limit, now_ms, lease_until_ms, token),
                partial(self._on_required, queue, requirement, limit, token, now_ms),
            )
            return
        self._woken.discard(queue)
        connection.send(
            lifecycle.fetch(queue, limit, now_ms, lease_until_ms, token),
            partial(self._on_reply, queue, limit, token, now_ms),
        )
        if queue in self._idle:
            # Most likely this fetches all there is, so the wait for the next is sent along.
            self._idle.discard(queue)
            self._wait(queue)

    def offer(self) -> None:
        """Offer free slots to clients of the last queue if it is empty.

        Once a round.
        """
        offers, queue, now = self._offers, self._last_queue, self._reactor.now()
        free = self._slots.free() - self._unread
        if free > self._was_free:
            self._freed_at = now
        self._was_free = free
        made = offers.count(now)
        if free < made:
            offers.withdraw()
            made = 0
        if not self.enabled:
            return
        is_idle = queue in self._waiting and not (self._asking or self._filled)
        if is_idle and now - self._freed_at < _OFFER_SECONDS:
            for _ in range(min(free, MOST_OFFERS) - made):
                offers.make(queue, self._clock.now_ms())

    def _on_handed(self, handed: Handed) -> None:
        self._last_queue = handed.queue
        self._acceptor.take(handed.queue, (handed.task,), handed.token, self._clock.now_ms())

    def _on_reply(self, queue: str, limit: int, token: str, now_ms: int, reply: Any) -> None:
        self._asking = False
        if isinstance(reply, ReplyError):
            refused(f"to give tasks queue={queue}", reply)
            self._look_later(queue, _REFUSED_LOOK)
            return
        if reply is None:
            # Paused. A wait for tasks would return at once, again and again.
            self._look_later(queue, _PAUSED_LOOK)
            return
        if isinstance(reply, Full):
            # Room is announced, except by programs in Go.
            self._look_later(queue, _FULL_LOOK)
            return
        if len(reply) < limit:
            if queue not in self._woken:
                self._filled.discard(queue)
            self._wait(queue)
        self._take(queue, token, now_ms, reply)

    def _on_required(
        self, queue: str, requirement: str, limit: int, token: str, now_ms: int, reply: Any
    ) -> None:
        self._asking = False
        if isinstance(reply, ReplyError):
            refused(f"to give parked tasks queue={queue}", reply)
            self.required.look_later(queue, requirement, _REFUSED_LOOK)
        elif reply is None or isinstance(reply, Full):
            self.required.look_later(queue, requirement, _PAUSED_LOOK)
        else:
            if len(reply) == limit:
                self.required.note(queue, (requirement.encode(),))
            self._take(queue, token, now_ms, reply)

    def _take(self, queue: str, token: str, now_ms: int, reply: Sequence[Fetched]) -> None:
        if not reply:
            return
        self._last_queue = queue
        whole: list[Fetched] = []
        for task in reply:
            if task.unread:
                self._read(task, queue, token)
            else:
                whole.append(task)
        self._acceptor.take(queue, whole, token, now_ms)

    def _read(self, task: Fetched, queue: str, token: str) -> None:
        """Read the large message of a held task."""
        self._unread += 1
        self._connections.tasks(queue).call(
            read_message_of(queue, task.task_id), partial(self._on_read, task, queue, token)
        )

    def _on_read(self, task: Fetched, queue: str, token: str, reply: Any) -> None:
        self._unread -= 1
        if isinstance(reply, ReplyError) or reply is None:
            # Its lease runs out, and the worker that finds it decides.
            log.error("message of a task not read id=%s queue=%s: %s", task.task_id, queue, reply)
            return
        self._acceptor.take(
            queue, [task._replace(msg=reply, unread=0)], token, self._clock.now_ms()
        )

    def _look_later(self, queue: str, seconds: float) -> None:
        self._filled.discard(queue)
        if queue not in self._later:
            self._later.add(queue)
            self._reactor.after(seconds, lambda: self._look_now(queue))

    def _look_now(self, queue: str) -> None:
        self._later.discard(queue)
        self.look(queue)

    def _wait(self, queue: str) -> None:
        if queue in self.order.weights and queue not in self._waiting:
            self._waiting.add(queue)
            # Moves the last element of the list onto itself: that blocks until there is one,
            # changes nothing, and notices any program that pushes (protocol H.1, 1).
            pending = queue_keys(queue).pending
            self._connections.blocking(queue).call(
                ("BLMOVE", pending, pending, "RIGHT", "RIGHT", WAIT_SECONDS),
                partial(self._on_task, queue),
            )

    def _on_task(self, queue: str, reply: Any) -> None:
        self._waiting.discard(queue)
        if isinstance(reply, ReplyError):
            self._look_later(queue, _REFUSED_LOOK)
        elif queue not in self._later:
            # While it is paused or full, a wait returns at once.
            if not self._asking:
                self._idle.add(queue)
            self.look(queue)

    def _on_up(self) -> None:
        self._filled = set(self.order.weights)

    def _on_down(self) -> None:
        self._asking = False
        self._unread = 0
        self._filled.clear()
        self._waiting.clear()
        self._idle.clear()
