"""Results that are not pickled: those of messages, and of calls with ``codec="json"``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nbqueue.calls import payloads
from nbqueue.calls.functions import load_value
from nbqueue.errors import SignatureError, TaskFailed

if TYPE_CHECKING:
    from nbqueue.broker.reads.models import TaskInfo
    from nbqueue.calls.keys.signing import Keyring
    from nbqueue.client.session import Session
    from nbqueue.wire.messages import TaskMessage


def has_json_result(keyring: Keyring, queue: str, message: TaskMessage | TaskInfo) -> bool:
    """Return whether a stored task is a call whose result is JSON.

    Only its signature proves that: otherwise anyone who can write to the store could make the
    results of any call unsigned ones.
    """
    if not payloads.is_call(message.payload):
        return False
    try:
        call = keyring.verify_call(message.payload, message.id, queue, message.type, only_head=True)
    except SignatureError:
        return False
    return bool(call.flags & payloads.JSON_RESULT)


def json_value(body: bytes, task_id: str) -> Any:
    """Decode the result of a call with ``codec="json"``. Raises `TaskFailed` if it is no JSON."""
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise TaskFailed(f"the result of task {task_id} is no JSON: {error}", task_id) from None


def plain_value(body: bytes) -> Any:
    """Decode the result of a message: JSON if it is valid, else the bytes."""
    if not body:
        return None
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        return body


def reported_value(
    session: Session, queue: str, task_id: str, *, is_call: bool, is_json: bool
) -> Any:
    """Read the latest partial result of a task; see `TaskFuture.reported`."""
    record = session.broker.find(task_id, queue)
    if record is None or record.result is None:
        return None
    body = record.result
    if is_json:
        return json_value(body, task_id)
    if not is_call and not payloads.is_result(body):
        return plain_value(body)
    result = session.keyring.verify_result(body, task_id)
    if result.kind not in (payloads.VALUE, payloads.REPORTED):
        raise SignatureError(f"the result of task {task_id} lies where it does not belong")
    return load_value(result.body)
