"""From a type and a payload to a message in the store, for any worker that speaks Asynq."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbqueue.broker.commands import NewTask
from nbqueue.calls import payloads
from nbqueue.client.futures import About, TaskFuture
from nbqueue.client.submit import _Defaults, _Terms, _Unsent
from nbqueue.errors import UsageError
from nbqueue.options import TaskOptions
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.limits import LIMITS_HEADER, limits_text

if TYPE_CHECKING:
    from nbqueue.client.session import Session

DEFAULTS = _Defaults(retry=25, timeout=1800, retention=0.0)
"""Asynq's own."""


def enqueue_message(
    session: Session, changes: Mapping[str, Any], type: str, payload: Any
) -> TaskFuture[Any]:
    """See `Client.enqueue`."""
    session.check_open()
    message = _Message(session, TaskOptions().merged(changes), type, payload)
    return message.send(message.task)


class _Message(_Unsent):
    """One message with its options, ready to be written."""

    def __init__(self, session: Session, options: TaskOptions, type: str, payload: Any) -> None:
        if not isinstance(type, str) or not type.strip():
            raise UsageError(f"type={type!r} is empty: it must be text, such as 'email:deliver'")
        if options.on_lost != "rerun":
            raise UsageError(
                "on_lost= is for calls: Asynq's format has no word for it, and a message whose "
                "worker is lost always runs again"
            )
        try:
            type.encode()
        except UnicodeEncodeError:
            raise UsageError(f"type={type!r} cannot be written as UTF-8") from None
        self._payload = encoded_payload(payload)
        about = About("", options.queue, type, options.name, is_call=False)
        super().__init__(session, _Terms(options, DEFAULTS), about)
        self._message.payload = self._payload or b""
        if self.terms.limits is not None:
            self._message.headers[LIMITS_HEADER] = limits_text(*self.terms.limits)
        if self.is_unique:
            self._message.unique_key = queue_keys(self.queue).unique(type, self._payload)

    def task(self, task_id: str) -> NewTask:
        self._message.id = task_id
        return NewTask(task_id, self._message.SerializeToString(deterministic=True))


def encoded_payload(payload: Any) -> bytes | None:
    """The bytes of a message's payload; None is none. Raises `UsageError` if it has no JSON."""
    if payload is None:
        return None
    if isinstance(payload, bytes | bytearray | memoryview):
        found = bytes(payload)
        if payloads.is_call(found):
            raise UsageError(
                "this payload begins as a call of nbqueue does, and would be taken for one"
            )
        return found
    try:
        if isinstance(payload, str):
            return payload.encode()
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"the payload cannot be written as JSON ({error}): pass bytes, text, or what JSON can "
            "hold"
        ) from None
