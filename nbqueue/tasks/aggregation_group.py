"""The tasks of an aggregation group, and the answer of the user's function.

The function runs in an executor, like all code of users. The supervisor sends the group and its
tasks as the payload of a message of its own kind (`pipe.AGGREGATION`), and gets back a `Message` in
the units of the wire.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nbqueue.calls import payloads
from nbqueue.clock import to_ms
from nbqueue.durations import parse_duration
from nbqueue.errors import UsageError
from nbqueue.moved_modules import pickled_as
from nbqueue.names import fault_of
from nbqueue.options import TaskOptions
from nbqueue.tasks.task import Task

RETRY = 25
TIMEOUT = 1800
"""Seconds. These two are the defaults of a message, which are Asynq's."""

_MEMBER = struct.Struct(">IIIII")
_HEAD = struct.Struct(">I")
_MOST_SECONDS = 100 * 365 * 86_400
_NUMBER, _TEXT = int | None, str | None
_KINDS: dict[str, Any] = {
    "type": str,
    **dict.fromkeys(("retry", "timeout", "deadline", "retention", "delay_ms"), int),
    **dict.fromkeys(("at_ms", "unique_ms"), _NUMBER),
    **dict.fromkeys(("task_id", "group"), _TEXT),
    "headers": dict,
}
_FOREIGN = {
    "queue": "the task goes to the queue of its members",
    "name": "q.get() finds tasks by names that a client gave",
    "on_conflict": "one that is there already stands for this one",
    "on_lost": "it is for calls",
    "fresh": "it is for calls",
    "retry_delay": "the worker's holds for messages",
    "retry_on": "the worker's holds for messages",
}


@pickled_as("nbqueue.executor.aggregation")
@dataclass(frozen=True, init=False)
class Message:
    """A message to enqueue, returned by the function of `Worker.aggregate`.

    >>> @worker.aggregate
    ... def digest(group, tasks):
    ...     return nbqueue.Message("email:digest", [task.json() for task in tasks], retry=5)

    ``payload`` is written as in ``q.enqueue``. ``options`` are those of a task that make sense
    here: ``retry``, ``timeout``, ``deadline``, ``delay`` or ``at``, ``retention``, ``unique``,
    ``task_id``, ``headers`` and ``group``. Raises `UsageError` for invalid values.
    """

    type: str
    payload: Any
    options: TaskOptions

    def __init__(self, type: str, payload: Any = None, **options: Any) -> None:
        check_type(type)
        encoded_payload(payload)
        for name in options:
            if name in _FOREIGN:
                raise UsageError(f"{name}= cannot be said of an aggregate: {_FOREIGN[name]}")
        object.__setattr__(self, "type", type)
        object.__setattr__(self, "payload", payload)
        object.__setattr__(self, "options", TaskOptions().merged(options))


def check_type(type: object) -> None:
    """Raise `UsageError` unless ``type`` can be the type of a message."""
    if not isinstance(type, str) or not type.strip():
        raise UsageError(f"type={type!r} is empty: it must be text, such as 'email:deliver'")
    fault = fault_of(type.strip(), only_printable=False)
    if fault is not None:
        raise UsageError(f"type={type!r} {fault}: leave that out")


def encoded_payload(payload: Any) -> bytes | None:
    """Return the bytes of a payload; None for None.

    Raises `UsageError` for a value that JSON cannot express.
    """
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


class Member(NamedTuple):
    """A task of a group on its way to the executor.

    ``headers`` are JSON.
    """

    task_id: str
    type: str
    max_retry: int
    headers: bytes
    payload: bytes


def pack_members(group: str, members: Sequence[Member]) -> bytes:
    """Return the payload of an aggregation."""
    name = group.encode()
    parts = [_HEAD.pack(len(name)), name]
    for member in members:
        task_id, kind = member.task_id.encode(), member.type.encode()
        sizes = (len(task_id), len(kind), len(member.headers), len(member.payload))
        parts += (_MEMBER.pack(*sizes, member.max_retry & 0x7FFFFFFF), task_id, kind)
        parts += (member.headers, member.payload)
    return b"".join(parts)


def unpack_members(body: bytes, queue: str) -> tuple[str, list[Task]]:
    """Return the group, and its tasks as the user's function sees them."""
    [length] = _HEAD.unpack_from(body)
    at = _HEAD.size + length
    group = body[_HEAD.size : at].decode()
    tasks: list[Task] = []
    while at < len(body):
        *sizes, max_retry = _MEMBER.unpack_from(body, at)
        at += _MEMBER.size
        parts: list[bytes] = []
        for size in sizes:
            parts.append(body[at : at + size])
            at += size
        task_id, kind, headers, payload = parts
        tasks.append(
            Task(
                task_id.decode(),
                kind.decode(),
                queue,
                0,
                max_retry,
                None,
                payload,
                json.loads(headers) if headers else {},
            )
        )
    return group, tasks


class MessageOptions(NamedTuple):
    """A `Message` in the wire's units: whole seconds, or milliseconds for ``_ms`` names."""

    type: str
    retry: int
    timeout: int
    deadline: int
    retention: int
    delay_ms: int
    at_ms: int | None
    unique_ms: int | None
    task_id: str | None
    group: str | None
    headers: dict[str, str]
    payload: bytes | None


def pack_message(value: object) -> bytes:
    """Pack the user's message for the supervisor.

    Raises `TypeError` if it is not a `Message`.
    """
    if not isinstance(value, Message):
        raise TypeError(
            f"the aggregator returned {type(value).__name__}: it must return an nbqueue.Message"
        )
    options = value.options
    deadline = 0 if options.deadline is None else to_ms(options.deadline) // 1000
    timeout = 0 if deadline else TIMEOUT
    if options.timeout is not None:
        timeout = max(1, math.ceil(_seconds(options.timeout)))
    payload = encoded_payload(value.payload)
    said = {
        "type": value.type,
        "retry": RETRY if options.retry is None else options.retry,
        "timeout": timeout,
        "deadline": deadline,
        "retention": math.ceil(_seconds(options.retention)),
        "delay_ms": round(_seconds(options.delay) * 1000),
        "at_ms": None if options.at is None else to_ms(options.at),
        "unique_ms": None if options.unique is None else round(_seconds(options.unique) * 1000),
        "task_id": options.task_id,
        "group": options.group,
        "headers": dict(options.headers),
        "has_payload": payload is not None,
    }
    head = json.dumps(said).encode()
    return _HEAD.pack(len(head)) + head + (payload or b"")


def unpack_message(body: bytes) -> MessageOptions:
    """Read a packed message. Raises `ValueError` or `TypeError` for anything else."""
    if len(body) < _HEAD.size:
        raise ValueError("the executor's answer is too short")
    [length] = _HEAD.unpack_from(body)
    said = json.loads(body[_HEAD.size : _HEAD.size + length])
    payload = body[_HEAD.size + length :]
    for name, kind in _KINDS.items():
        # User code may have made it: a wrong type must not end the supervisor.
        if not isinstance(said[name], kind):
            raise TypeError(f"{name}={said[name]!r} is not what it must be")
    return MessageOptions(payload=payload if said.pop("has_payload") else None, **said)


def _seconds(value: Any) -> float:
    seconds = 0.0 if value is None else parse_duration(value)
    if seconds > _MOST_SECONDS:
        raise UsageError(f"{value!r} is longer than a hundred years")
    return seconds


Aggregator = Callable[[str, list[Task]], Any]
