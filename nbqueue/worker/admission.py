"""What may be run at all: checked as soon as a task is fetched, before anything of it is loaded."""

from __future__ import annotations

import sys
from typing import NamedTuple

from nbqueue.calls import payloads
from nbqueue.calls.exceptions import error_text
from nbqueue.calls.signing import Keyring
from nbqueue.errors import (
    HandlerNotFound,
    IncompatiblePython,
    NbqueueError,
    SignatureError,
    TaskFailed,
    TaskTimeout,
)
from nbqueue.worker import state
from nbqueue.worker.runs import Run

_PYTHON = sys.version_info[:2]


class Refusal(NamedTuple):
    """Why a task is not run, and what becomes of it."""

    decision: state.Archive | state.Retry
    error: NbqueueError


def admit(run: Run, keys: Keyring, now: float) -> Refusal | None:
    """Verify the call of ``run`` and set ``run.call``; or say why it must not run.

    ``now`` is Unix seconds on the store's clock. Nothing is unpickled here, and nothing that this
    refuses ever is.
    """
    message = run.message
    if not message.type:
        text = "what lies in the store is no task that this program can read"
        return Refusal(state.Archive("unreadable", text), TaskFailed(text, run.task_id))
    if not payloads.is_call(message.payload):
        text = f'handler not found for task "{message.type}"'
        return Refusal(
            state.after_failure(run, "no handler", text), HandlerNotFound(text, run.task_id)
        )
    try:
        run.call = call = keys.verify_call(message.payload, run.task_id, run.queue, message.type)
    except SignatureError as refused:
        return Refusal(state.Archive("signature", error_text(refused)), refused)
    if call.python != _PYTHON and not call.flags & payloads.BY_REFERENCE:
        theirs, ours = (".".join(map(str, each)) for each in (call.python, _PYTHON))
        text = (
            f"{message.type} was sent by Python {theirs}, and this worker runs Python {ours}, "
            f"which cannot load its code: start a worker with Python {theirs}"
        )
        return Refusal(state.Archive("python", text), IncompatiblePython(text))
    deadline = run.deadline
    if deadline and deadline <= now:
        run.ends_at = deadline
        text = state.timeout_text(run)
        return Refusal(state.after_failure(run, "timeout", text), TaskTimeout(text, run.task_id))
    return None
