"""Accept tasks that were fetched or handed over.

They are verified before anything of them is unpickled, then run or refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.lifecycle import Fetched
from nbqueue.calls import payloads
from nbqueue.calls.exceptions import error_text
from nbqueue.calls.keys.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.errors import HandlerNotFound, SignatureError, TaskFailed, TaskTimeout
from nbqueue.requirements import is_met, version_requirement
from nbqueue.wire.messages import TaskMessage, read_apart
from nbqueue.worker.executors.waiting_attempts import WaitingAttempts
from nbqueue.worker.handler_table import HandlerTable, StoredHandlers
from nbqueue.worker.tasks import decisions
from nbqueue.worker.tasks.attempt import Attempt, AttemptOwner
from nbqueue.worker.tasks.decisions import Refusal
from nbqueue.worker.tasks.large_arguments import LargeArguments
from nbqueue.worker.tasks.leases import HeldTasks
from nbqueue.worker.tasks.required_workers import Parking
from nbqueue.worker.unreadable_data import set_aside

NO_HANDLER = "no handler"


class Verifier:
    """Finds the verified call or handler of an attempt, or refuses the attempt.

    Nothing is unpickled here, and a refused attempt is never unpickled. ``offered`` are the
    requirements that this worker meets.
    """

    def __init__(
        self,
        keys: Keyring,
        handlers: HandlerTable,
        clock: Clock,
        offered: frozenset[str] = frozenset(),
    ) -> None:
        self._keys = keys
        self._handlers = handlers
        self._clock = clock
        self._offered = offered

    def refusal(self, attempt: Attempt) -> Refusal | None:
        """Set the code that ``attempt`` runs.

        Returns why it must not run, or None if it may.
        """
        if not attempt.message.type:
            return unreadable(attempt)
        is_call = payloads.is_call(attempt.payload)
        refusal = self._take_call(attempt) if is_call else self._take_message(attempt)
        if refusal is not None:
            return refusal
        if attempt.is_unlimited:
            return None
        deadline = attempt.deadline
        if deadline and deadline <= self._clock.now():
            attempt.ends_at = deadline
            text = decisions.timeout_text(attempt)
            decision = decisions.after_failure(attempt, "timeout", text)
            return Refusal(decision, TaskTimeout(text, attempt.task_id))
        return None

    def unmet_requirement(self, attempt: Attempt) -> str | None:
        """Return the requirement of ``attempt`` that this worker lacks, if any.

        Only for an attempt that `refusal` did not refuse.
        """
        call = attempt.call
        if call is None:
            found = self._handlers.find(attempt.queue, attempt.message.type)
            requirement = None if found is None else found.requirement
        elif call.flags & payloads.BY_REFERENCE:
            return None
        else:
            requirement = version_requirement(call.python)
        offered = self._offered
        if requirement is None or requirement in offered or is_met(requirement, offered):
            return None
        return requirement

    def _take_message(self, attempt: Attempt) -> Refusal | None:
        found = self._handlers.find(attempt.queue, attempt.message.type)
        if found is None:
            text = f'handler not found for task "{attempt.message.type}"'
            decision = decisions.after_failure(attempt, NO_HANDLER, text)
            return Refusal(decision, HandlerNotFound(text, attempt.task_id))
        attempt.fingerprint, attempt.is_coroutine = found.fingerprint, found.is_async
        return None

    def _take_call(self, attempt: Attempt) -> Refusal | None:
        try:
            attempt.call = call = self._keys.verify_call(
                attempt.payload,
                attempt.task_id,
                attempt.queue,
                attempt.message.type,
                only_head=attempt.is_checked,
            )
        except SignatureError as refused:
            return Refusal(decisions.Archive("signature", error_text(refused)), refused)
        flags = call.flags
        attempt.fingerprint, attempt.is_coroutine = (
            call.fingerprint,
            bool(flags & payloads.COROUTINE),
        )
        if flags & payloads.FRESH:
            attempt.is_fresh = True
        return None


def unreadable(attempt: Attempt) -> Refusal:
    """Return the refusal of unreadable data, or of impossible values."""
    text = "what lies in the store is no task that this program can read"
    return Refusal(decisions.Archive("unreadable", text), TaskFailed(text, attempt.task_id))


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
            is_detached = apart is None and attempt.payload[:6] in payloads.DETACHED_CALLS
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
