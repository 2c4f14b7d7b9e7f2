"""Check fetched tasks before anything of them is unpickled."""

from __future__ import annotations

from nbqueue.calls import payloads
from nbqueue.calls.exceptions import error_text
from nbqueue.calls.keys.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.errors import HandlerNotFound, SignatureError, TaskFailed, TaskTimeout
from nbqueue.requirements import is_met, version_requirement
from nbqueue.worker.handler_table import HandlerTable
from nbqueue.worker.tasks import decisions
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.decisions import Refusal

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
        payload = attempt.payload
        refusal = (
            self._take_call(attempt, payload)
            if payloads.is_call(payload)
            else self._take_message(attempt)
        )
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

    def _take_call(self, attempt: Attempt, payload: bytes | memoryview) -> Refusal | None:
        try:
            attempt.call = call = self._keys.verify_call(
                payload,
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
