"""Records of workers and their running tasks, as Asynq's programs read them.

Asynq calls a worker a server and a running task a worker; only this module uses these words.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from google.protobuf.message import DecodeError

from nbqueue.wire.keys import server_info, server_tasks
from nbqueue.wire.messages import ServerInfo, WorkerInfo, clean_text

ACTIVE, STOPPED, CLOSED = "active", "stopped", "closed"
FAR_DEADLINE = 32_503_680_000
"""The year 3000, in Unix seconds.

An unset time would be shown as 1970.
"""
_MOST_SHOWN = 200


class WorkerName(NamedTuple):
    """The parts of a worker's id, ``host:pid:rest``."""

    host: str
    pid: int
    rest: str

    @property
    def info_key(self) -> str:
        return server_info(*self)

    @property
    def tasks_key(self) -> str:
        return server_tasks(*self)


def read_worker_id(worker_id: str) -> WorkerName | None:
    """The parts of a worker's id, or None if it is none."""
    host, _, pid_and_rest = clean_text(worker_id).rpartition(":")
    host, _, pid = host.rpartition(":")
    if not host or not pid.isdecimal() or len(pid) > 9 or not pid_and_rest:
        return None
    return WorkerName(host, int(pid), pid_and_rest)


class WorkerRecord(NamedTuple):
    """A worker as it announces itself. ``started_at`` is in Unix seconds."""

    worker_id: str
    concurrency: int
    queues: Mapping[str, int]
    strict_priority: bool
    status: str
    started_at: float
    running: int


class RunningTask(NamedTuple):
    """A task that a worker runs. Times are Unix seconds; ``deadline`` 0: none.

    ``shown`` is what people see in place of its payload.
    """

    task_id: str
    type: str
    shown: bytes
    queue: str
    started_at: float
    deadline: float


def encode_worker(record: WorkerRecord) -> bytes:
    name = read_worker_id(record.worker_id)
    assert name is not None
    info = ServerInfo(
        host=name.host,
        pid=name.pid,
        server_id=name.rest,
        concurrency=record.concurrency,
        queues=dict(record.queues),
        strict_priority=record.strict_priority,
        status=record.status,
        active_worker_count=record.running,
    )
    info.start_time.FromMicroseconds(int(record.started_at * 1e6))
    return info.SerializeToString(deterministic=True)


def decode_worker(body: bytes) -> WorkerRecord | None:
    """Decode the record of a worker, of nbqueue or in Go.

    None if it is malformed.
    """
    try:
        info = ServerInfo.FromString(body)
    except DecodeError:
        return None
    return WorkerRecord(
        f"{info.host}:{info.pid}:{info.server_id}",
        info.concurrency,
        dict(info.queues),
        info.strict_priority,
        info.status,
        info.start_time.seconds + info.start_time.nanos / 1e9,
        info.active_worker_count,
    )


def encode_tasks(worker_id: str, tasks: Iterable[RunningTask]) -> bytes:
    """Encode the hash of a worker's running tasks, each entry with its lengths."""
    name = read_worker_id(worker_id)
    assert name is not None
    out = bytearray()
    seen: set[str] = set()
    for task in tasks:
        info = WorkerInfo(
            host=name.host,
            pid=name.pid,
            server_id=name.rest,
            task_id=task.task_id,
            task_type=task.type,
            task_payload=task.shown,
            queue=task.queue,
        )
        info.start_time.FromMicroseconds(int(task.started_at * 1e6))
        info.deadline.FromSeconds(int(min(task.deadline or FAR_DEADLINE, FAR_DEADLINE)))
        # Two queues may have a task of the same id. Readers look at the values only.
        field = task.task_id if task.task_id not in seen else f"{task.task_id} in {task.queue}"
        seen.add(task.task_id)
        for part in (field.encode(), info.SerializeToString(deterministic=True)):
            out += struct.pack(">I", len(part)) + part
    return bytes(out)


def shown_payload(payload: bytes) -> bytes:
    """``payload`` as Asynq's tools can show it: one short line, or its length."""
    try:
        text = payload[: 4 * _MOST_SHOWN].decode()
    except UnicodeDecodeError as error:
        if len(payload) <= 4 * _MOST_SHOWN or error.start < 4 * _MOST_SHOWN - 3:
            return f"<{len(payload):,} bytes>".encode()
        text = payload[: error.start].decode()
    text = " ".join(text.split())
    if not text.isprintable():
        return f"<{len(payload):,} bytes>".encode()
    return (text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…").encode()
