"""Decode Asynq's records of workers and schedulers; None for other values."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from google.protobuf.message import DecodeError

from nbqueue.clock import EPOCH
from nbqueue.wire.messages import (
    GO_ZERO_SECONDS,
    SchedulerEnqueueEvent,
    SchedulerEntry,
    ServerInfo,
    WorkerInfo,
)


def moment(stamp: Any) -> datetime | None:
    """Decode a timestamp of a message as a datetime in UTC.

    None for a missing one and for Go's zero time.
    """
    if stamp.seconds in (0, GO_ZERO_SECONDS):
        return None
    try:
        return EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    except OverflowError:
        return None


def read_server(data: bytes) -> ServerInfo | None:
    try:
        return ServerInfo.FromString(data)
    except DecodeError:
        return None


def read_worker(data: bytes) -> WorkerInfo | None:
    try:
        return WorkerInfo.FromString(data)
    except DecodeError:
        return None


def read_entry(data: bytes) -> SchedulerEntry | None:
    try:
        return SchedulerEntry.FromString(data)
    except DecodeError:
        return None


def read_event(data: bytes) -> SchedulerEnqueueEvent | None:
    try:
        return SchedulerEnqueueEvent.FromString(data)
    except DecodeError:
        return None
