"""Asynq's protobuf messages, made and read.

`TaskMessage` and its siblings are the generated classes. They are re-encoded by programs in Go,
which drop unknown fields and refuse text that is not UTF-8: `clean_text` makes text safe.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import DecodeError

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
    "read_message",
    "read_messages",
    "with_completed_at",
]

FAR_TIMEOUT = 100 * 365 * 86_400
"""Seconds that stand for "no time-out". Asynq takes 0 for its own default of half an hour; Go
counts durations in nanoseconds of 63 bits, which ends at 292 years."""

GO_ZERO_SECONDS = -62_135_596_800
"""Go's zero time, 0001-01-01T00:00:00Z, in Unix seconds."""

_COMPLETED_AT_TAG = b"\x68"


def read_message(msg: bytes) -> TaskMessage | None:
    """The message that ``msg`` encodes, or None if it encodes none."""
    try:
        return TaskMessage.FromString(msg)
    except DecodeError:
        return None


def read_messages(msgs: Iterable[bytes]) -> list[TaskMessage] | None:
    """These messages; None if there is one that encodes none."""
    try:
        return list(map(TaskMessage.FromString, msgs))
    except DecodeError:
        return None


def clean_text(text: str) -> str:
    """Return ``text`` without lone surrogates, which cannot be UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def with_completed_at(msg: bytes, completed_at: int) -> bytes:
    """Return an encoded `TaskMessage` with ``completed_at`` (Unix seconds) set.

    Of a field that comes twice every protobuf reader takes the last, so the field is appended
    rather than the message decoded and encoded again: this runs once for every task.
    """
    return msg + _COMPLETED_AT_TAG + _varint(completed_at)
