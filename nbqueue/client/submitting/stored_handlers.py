"""Handlers of messages that are stored for all workers of a queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbqueue.broker.commands import enqueue as enqueue_commands
from nbqueue.calls.functions import dump_function
from nbqueue.calls.payloads import BY_REFERENCE, COROUTINE, pack_call
from nbqueue.client.session import Session
from nbqueue.errors import UsageError
from nbqueue.tasks.task import Task
from nbqueue.wire.keys import HANDLER_TYPE


def serve(session: Session, pattern: str, fn: Callable[[Task], Any], queue: str) -> None:
    """Sign and store a handler; see `Client.serve`."""
    session.check_open()
    if not isinstance(pattern, str) or not pattern.strip():
        raise UsageError(f"pattern={pattern!r} is empty: name a type, or how types begin")
    code = dump_function(fn, session.code_limit)
    session.check_value(len(code.blob), f"the code of {code.name}")
    flags = COROUTINE * code.is_coroutine | BY_REFERENCE * code.by_reference
    unsigned = pack_call(code.fingerprint, b"", flags)
    envelope = session.keyring.sign_call(unsigned, pattern, queue, HANDLER_TYPE)
    session.broker.run(
        enqueue_commands.serve(
            queue, pattern, envelope, code.fingerprint, code.blob, session.clock.now_ms()
        )
    )


def unserve(session: Session, pattern: str, queue: str) -> bool:
    """Remove a stored handler; return whether there was one."""
    session.check_open()
    return session.broker.run(enqueue_commands.unserve(queue, pattern))
