"""End attempts that no process runs: expired leases, dead workers, lost replies."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

from nbqueue.broker.commands import lifecycle, maintenance
from nbqueue.broker.commands.failure import Who
from nbqueue.broker.commands.lifecycle import Fetched
from nbqueue.broker.commands.maintenance import Expired, Held
from nbqueue.calls import payloads
from nbqueue.errors import SignatureError
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.decoding import LAST_MS, whole_number
from nbqueue.wire.messages import TaskMessage, read_message
from nbqueue.worker.maintenance.service import Component, QueueTimers
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks import decisions
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.leases import HeldTasks, LeaseTokens
from nbqueue.worker.tasks.task_outcomes import TaskOutcomes


class LostAttempts:
    """Decides about attempts that were found in the store and not fetched.

    Several workers may find one attempt: its fence lets only the first of them end it.
    """

    def __init__(
        self,
        context: ServiceContext,
        held: HeldTasks,
        outcomes: TaskOutcomes,
        tokens: LeaseTokens,
        numbers: itertools.count[int],
    ) -> None:
        self._connections = context.connections
        self._clock = context.clock
        self._keys = context.keys
        self._queues = context.queues.names
        self._held = held
        self._outcomes = outcomes
        self._tokens = tokens
        self._numbers = numbers
        context.connections.on_up.append(self._find_unreceived)

    def on_expired(self, queue: str, task: Expired) -> None:
        """End an attempt whose lease ran out."""
        if self._held.has_task(queue, task.task_id):
            return  # This worker was suspended; the next heartbeat extends the lease.
        holder, started_ms = _token_parts(task.lease.rpartition("|")[0])
        attempt = self._attempt(queue, task, task.fence, started_ms)
        # A program in Go begins a task as soon as it has fetched it.
        attempt.begun = task.begun or "." not in task.score
        why = f"worker {holder} was lost" if holder else "its worker was lost"
        self._lost(attempt, holder, "lease ran out", why)

    def on_left_behind(self, queue: str, task: Held) -> None:
        """End an attempt whose worker's process is gone."""
        holder, started_ms = _token_parts(task.token)
        attempt = self._attempt(queue, task, lifecycle.token_fence(task.token), started_ms)
        attempt.begun = task.begun
        self._lost(attempt, holder, "worker died", f"worker {holder} died")

    def _lost(self, attempt: Attempt, holder: str, reason: str, why: str) -> None:
        message = attempt.message
        if payloads.is_call(message.payload):
            try:
                attempt.call = self._keys.verify_call(
                    message.payload, attempt.task_id, attempt.queue, message.type, only_head=True
                )
            except SignatureError:
                attempt.call = None  # The worker that fetches it next refuses it.
        host = holder.rpartition(":")[0].rpartition(":")[0]
        attempt.holder = Who(holder, host) if holder else None
        self._outcomes.settle(attempt, decisions.after_loss(attempt, reason, why))

    def _attempt(
        self, queue: str, task: Held | Expired, fence: str, started_ms: int | None = None
    ) -> Attempt:
        attempt = Attempt(
            next(self._numbers),
            queue,
            Fetched(task.task_id, task.msg, None, task.attempt, task.lost),
            read_message(task.msg) or TaskMessage(),
            fence,
            self._clock.now_ms() if started_ms is None else started_ms,
            self._outcomes,
        )
        attempt.unbegun = task.unbegun
        return attempt

    def _find_unreceived(self) -> None:
        """Give back tasks that this worker fetched but never received.

        The reply to the fetch was lost. Only tasks that were fetched over earlier connections are
        given back, as newer ones may still be on their way. The tasks held now count as received,
        even if the store gets their outcomes before it answers.
        """
        known = {(each.queue, each.task_id, each.fence) for each in self._held.values()}
        for queue in self._queues:
            self._connections.upkeep(queue).send(
                maintenance.held_by_worker(queue, self._tokens.worker_id),
                partial(self._on_held, queue, known, self._tokens.issued),
            )

    def _on_held(self, queue: str, known: set[Any], last_token: int, found: Any) -> None:
        if isinstance(found, ReplyError):
            refused("a search", found)
            return
        for task in found:
            number = whole_number(task.token.rpartition(":")[2], 0)
            fence = lifecycle.token_fence(task.token)
            is_old = number is not None and number <= last_token
            if is_old and (queue, task.task_id, fence) not in known:
                attempt = self._attempt(queue, task, fence)
                # Held, so that it is not given back twice if the store is lost once more.
                self._held[attempt.number] = attempt
                attempt.owner.give_back(attempt, "unstarted", "never heard of")


class Recoverer(Component):
    """Finds tasks of any worker whose lease has expired, when ``timers`` expire."""

    def __init__(self, context: ServiceContext, lost: LostAttempts) -> None:
        super().__init__(context)
        self._lost = lost
        self.timers = QueueTimers(context, self.recover, gap=1.0)

    def recover(self, queue: str) -> None:
        """Look for expired leases in ``queue`` now."""
        self._send(
            queue,
            maintenance.expired(queue, self._clock.now_ms()),
            partial(self._on_found, queue),
        )

    def _on_found(self, queue: str, found: list[Expired] | None) -> None:
        for task in found or ():
            self._lost.on_expired(queue, task)


def _token_parts(token: str) -> tuple[str, int | None]:
    """Return the worker and the time (Unix ms) in a token.

    Empty for a token of a program in Go.
    """
    holder, _, rest = token.rpartition(":")
    holder, _, fetched_ms = holder.rpartition(":")
    started_ms = whole_number(fetched_ms, 0, LAST_MS)
    return (holder, started_ms) if rest and started_ms is not None else ("", None)
