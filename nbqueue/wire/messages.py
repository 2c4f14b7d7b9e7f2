"""Encode and decode Asynq's protobuf messages.

`TaskMessage` and its siblings are the generated classes. They are re-encoded by programs in Go,
which drop unknown fields and refuse text that is not UTF-8: `clean_text` makes text safe.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from google.protobuf.message import DecodeError

from nbqueue.runtime.buffers import LARGE, Body, ChunkedBytes
from nbqueue.wire.asynq_pb2 import (
    SchedulerEnqueueEvent,
    SchedulerEntry,
    ServerInfo,
    TaskMessage,
    WorkerInfo,
)

__all__ = [
    "FAR_TIMEOUT",
    "GO_ZERO_SECONDS",
    "SchedulerEnqueueEvent",
    "SchedulerEntry",
    "ServerInfo",
    "TaskMessage",
    "WorkerInfo",
    "clean_text",
    "is_same_task",
    "message_encoder",
    "read_apart",
    "read_message",
    "read_messages",
    "with_completed_at",
]

FAR_TIMEOUT = 100 * 365 * 86_400
"""Seconds that stand for "no time-out".

Asynq takes 0 for its own default of half an hour; Go counts durations in nanoseconds of 63 bits,
which ends at 292 years.
"""

GO_ZERO_SECONDS = -62_135_596_800
"""Go's zero time, 0001-01-01T00:00:00Z, in Unix seconds."""

_PAYLOAD_TAG = 0x12
_COMPLETED_AT_TAG = b"\x68"
_SMALL = [bytes((value,)) for value in range(0x80)]


def read_message(msg: bytes) -> TaskMessage | None:
    """Decode a `TaskMessage`; None if ``msg`` is none."""
    try:
        return TaskMessage.FromString(msg)
    except DecodeError:
        return None


def read_messages(msgs: Iterable[bytes]) -> list[TaskMessage] | None:
    """Decode messages; None if one of them is none."""
    try:
        return list(map(TaskMessage.FromString, msgs))
    except DecodeError:
        return None


def read_apart(msg: bytes) -> tuple[TaskMessage, memoryview | None] | None:
    """Decode a message; the payload of a large one is returned apart from it."""
    span = _payload_in(msg) if len(msg) > LARGE else None
    try:
        if span is None:
            return TaskMessage.FromString(msg), None
        begin, start, end = span
        return TaskMessage.FromString(msg[:begin] + msg[end:]), memoryview(msg)[start:end]
    except DecodeError:
        return None


def _payload_in(msg: bytes) -> tuple[int, int, int] | None:
    """Find where the payload's field begins, and where its bytes begin and end.

    None unless the field occurs once.
    """
    found, at, size = None, 0, len(msg)
    try:
        while at < size:
            begin = at
            tag, at = _read_varint(msg, at)
            value, at = _read_varint(msg, at)
            if tag & 7 == 2:
                start, at = at, at + value
                if tag == _PAYLOAD_TAG:
                    if found is not None:
                        return None
                    found = begin, start, at
            elif tag & 7 != 0:
                return None  # of no field that this program knows
    except IndexError:
        return None
    return found if at == size else None


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise IndexError("this number has no end")


def clean_text(text: str) -> str:
    """Return ``text`` without lone surrogates, which cannot be UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _varint(value: int) -> bytes:
    if value < len(_SMALL):
        return _SMALL[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def with_completed_at(msg: bytes, completed_at: int) -> Body:
    """Return an encoded `TaskMessage` with ``completed_at`` (Unix seconds) set.

    Of a field that comes twice every protobuf reader takes the last, so the field is appended
    rather than the message decoded and encoded again: this runs once for every task.
    """
    field = _completed_at(completed_at)
    return ChunkedBytes(msg, field) if len(msg) > LARGE else msg + field


@functools.lru_cache(maxsize=4)
def _completed_at(completed_at: int) -> bytes:
    return _COMPLETED_AT_TAG + _varint(completed_at)


def is_same_task(new: bytes, stored: bytes) -> bool:
    """Return whether ``stored`` can be ``new`` after some attempts.

    Attempts change only the fields that are cleared here.
    """
    ours, theirs = TaskMessage.FromString(new), TaskMessage.FromString(stored)
    for message in (ours, theirs):
        for changing in ("retried", "error_msg", "last_failed_at", "completed_at"):
            message.ClearField(changing)
    return ours == theirs


def message_encoder(message: TaskMessage) -> Callable[[str, bytes], bytes]:
    """Return a function that encodes ``message`` with another id and payload.

    Requires a payload that is not empty. The bytes are as protobuf writes them: fields by their
    numbers, empty ones left out. The parts that all tasks of a map share are encoded once.
    """
    rest = TaskMessage()
    rest.CopyFrom(message)
    for name in ("type", "payload", "id"):
        rest.ClearField(name)
    head = TaskMessage(type=message.type).SerializeToString() + bytes((_PAYLOAD_TAG,))
    tail = rest.SerializeToString(deterministic=True)

    def encode(task_id: str, payload: bytes) -> bytes:
        name = task_id.encode()
        size, length = _varint(len(payload)), _varint(len(name))
        return b"".join((head, size, payload, b"\x1a", length, name, tail))

    return encode
