"""What may be run at all: checked as soon as a task is fetched, before anything of it is loaded."""

from __future__ import annotations

from typing import NamedTuple

from nbqueue.calls import payloads
from nbqueue.calls.exceptions import error_text
from nbqueue.calls.keys.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.errors import (
    HandlerNotFound,
    NbqueueError,
    SignatureError,
    TaskFailed,
    TaskTimeout,
)
from nbqueue.requirements import is_met, version_requirement
from nbqueue.worker.handler_table import HandlerTable
from nbqueue.worker.tasks import decisions
from nbqueue.worker.tasks.attempt import Attempt

NO_HANDLER = "no handler"


class Refusal(NamedTuple):
    """Why a task is not run, and what becomes of it."""

    decision: decisions.Archive | decisions.Retry
    error: NbqueueError


def unmet_requirement(run: Attempt, handlers: HandlerTable, offered: frozenset[str]) -> str | None:
    """What the code of ``run``, which was admitted, needs of a worker, unless it is ``offered``."""
    call = run.call
    if call is None:
        found = handlers.find(run.queue, run.message.type)
        requirement = None if found is None else found.requirement
    elif call.flags & payloads.BY_REFERENCE:
        return None
    else:
        requirement = version_requirement(call.python)
    if requirement is None or requirement in offered or is_met(requirement, offered):
        return None
    return requirement


def admit(run: Attempt, keys: Keyring, handlers: HandlerTable, clock: Clock) -> Refusal | None:
    """Find out what ``run`` is to run, a verified call or a handler; or say why it must not.

    Nothing is unpickled here, and nothing that this refuses ever is.
    """
    if not run.message.type:
        return unreadable(run)
    payload = run.payload
    refusal = (
        _admit_call(run, payload, keys)
        if payloads.is_call(payload)
        else _admit_message(run, handlers)
    )
    if refusal is not None:
        return refusal
    if run.is_unlimited:
        return None
    deadline = run.deadline
    if deadline and deadline <= clock.now():
        run.ends_at = deadline
        text = decisions.timeout_text(run)
        return Refusal(
            decisions.after_failure(run, "timeout", text), TaskTimeout(text, run.task_id)
        )
    return None


def unreadable(run: Attempt) -> Refusal:
    """The refusal of what is no task, or one that says what cannot be."""
    text = "what lies in the store is no task that this program can read"
    return Refusal(decisions.Archive("unreadable", text), TaskFailed(text, run.task_id))


def _admit_message(run: Attempt, handlers: HandlerTable) -> Refusal | None:
    found = handlers.find(run.queue, run.message.type)
    if found is None:
        text = f'handler not found for task "{run.message.type}"'
        return Refusal(
            decisions.after_failure(run, NO_HANDLER, text), HandlerNotFound(text, run.task_id)
        )
    run.fingerprint, run.is_coroutine = found.fingerprint, found.is_async
    return None


def _admit_call(run: Attempt, payload: bytes | memoryview, keys: Keyring) -> Refusal | None:
    message = run.message
    try:
        run.call = call = keys.verify_call(
            payload, run.task_id, run.queue, message.type, only_head=run.is_checked
        )
    except SignatureError as refused:
        return Refusal(decisions.Archive("signature", error_text(refused)), refused)
    run.fingerprint, run.is_coroutine = call.fingerprint, bool(call.flags & payloads.COROUTINE)
    if call.flags & payloads.FRESH:
        run.is_fresh = True
    return None
