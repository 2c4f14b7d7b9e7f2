"""Accept tasks that were fetched or handed over.

They are verified, then run or refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.lifecycle import Fetched
from nbqueue.calls.payloads import DETACHED_CALLS
from nbqueue.wire.messages import TaskMessage, read_apart
from nbqueue.worker.executors.waiting_attempts import WaitingAttempts
from nbqueue.worker.handler_table import StoredHandlers
from nbqueue.worker.tasks.attempt import Attempt, AttemptOwner
from nbqueue.worker.tasks.large_arguments import LargeArguments
from nbqueue.worker.tasks.leases import HeldTasks
from nbqueue.worker.tasks.required_workers import Parking
from nbqueue.worker.tasks.verifier import NO_HANDLER, Verifier, unreadable
from nbqueue.worker.unreadable_data import set_aside


class TaskAcceptor:
    """Makes attempts of received tasks, to wait for an executor.

    The attempt is held from then on. ``owner`` decides about attempts that are refused, and about
    the outcomes of all others.
    """

    def __init__(
        self,
        verifier: Verifier,
        handlers: StoredHandlers,
        held: HeldTasks,
        large_arguments: LargeArguments,
        parking: Parking,
        waiting: WaitingAttempts,
        owner: AttemptOwner,
        numbers: itertools.count[int],
    ) -> None:
        self._verifier = verifier
        self._handlers = handlers
        self._held = held
        self._large_arguments = large_arguments
        self._parking = parking
        self._waiting = waiting
        self._owner = owner
        self._numbers = numbers

    def take(self, queue: str, tasks: Sequence[Fetched], token: str, now_ms: int) -> None:
        """Accept tasks of ``queue`` that this worker holds under ``token``."""
        fence = lifecycle.token_fence(token)
        # The time in the token, as the reply may have come long after: see `LeaseTokens`.
        leased_ms = int(token.rsplit(":", 2)[1])
        for task in tasks:
            message, apart = read_apart(task.msg) or (TaskMessage(), None)
            attempt = Attempt(
                next(self._numbers), queue, task, message, fence, now_ms, self._owner, apart
            )
            attempt.leased_ms = leased_ms
            self._held[attempt.number] = attempt
            is_detached = apart is None and attempt.payload[:6] in DETACHED_CALLS
            if not (is_detached and self._large_arguments.read(attempt, self._begin)):
                self._begin(attempt)

    def _begin(self, attempt: Attempt, has_asked: bool = False) -> None:
        if attempt.is_lost:
            self._held.pop(attempt.number, None)
            return
        try:
            refusal = self._verifier.refusal(attempt)
        except Exception as error:  # caused by what its message contains
            set_aside("task", f"{attempt.queue} {attempt.task_id}", error)
            refusal = unreadable(attempt)
        if refusal is None:
            requirement = self._verifier.unmet_requirement(attempt)
            if requirement is None:
                self._waiting.add(attempt)
            else:
                self._parking.park(attempt, requirement)
        elif refusal.decision.reason == NO_HANDLER and not has_asked:
            # A client may just have stored one, with the announcement still on its way.
            self._handlers.ask(attempt.queue, lambda: self._begin(attempt, has_asked=True))
        else:
            attempt.owner.refused(attempt, refusal)
