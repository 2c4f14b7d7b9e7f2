"""Read the members of an aggregation group and its function's result. Pure."""

from __future__ import annotations

import json
import logging
import uuid
from typing import NamedTuple

from nbqueue.broker.commands.aggregation import Aggregate
from nbqueue.tasks import aggregation_group
from nbqueue.tasks.aggregation_group import Member
from nbqueue.tasks.new_task import NewTask
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import TaskMessage, read_message

log = logging.getLogger("nbqueue.worker")


def member_of(task: NewTask) -> Member | None:
    """Return a task for its group's function, or None if it is unreadable."""
    message = read_message(bytes(task.msg)) if task.msg else None
    if message is None or not message.type:
        log.error("a task of a group cannot be read, and goes with the others id=%s", task.task_id)
        return None
    headers = json.dumps(dict(message.headers)).encode() if message.headers else b""
    return Member(task.task_id, message.type, message.retry, headers, message.payload)


class ReturnedTask(NamedTuple):
    """The task that a group's function returned, with its delay or time (Unix ms)."""

    task: NewTask
    delay_ms: int
    at_ms: int | None
    group: str
    lock: str
    unique_ms: int

    def at(self, now_ms: int) -> Aggregate:
        """Return the task as the broker stores it at ``now_ms``."""
        at_ms = now_ms + self.delay_ms if self.at_ms is None else self.at_ms
        due_ms = at_ms if at_ms > now_ms else None
        return Aggregate(self.task, due_ms, self.group, self.lock, self.unique_ms)


def returned_task(queue: str, body: bytes) -> ReturnedTask:
    """Read the bytes that a group's function returned.

    Raises `ValueError`, `TypeError` or `KeyError` for bytes that are no message.
    """
    message = aggregation_group.unpack_message(body)
    keys = queue_keys(queue)
    lock = "" if message.unique_ms is None else keys.unique(message.type, message.payload)
    encoded = TaskMessage(
        type=message.type,
        payload=message.payload or b"",
        id=message.task_id or str(uuid.uuid4()),
        queue=queue,
        retry=message.retry,
        timeout=message.timeout,
        deadline=message.deadline,
        retention=message.retention,
        unique_key=lock,
        group_key=message.group or "",
        headers=message.headers,
    )
    return ReturnedTask(
        NewTask(encoded.id, encoded.SerializeToString(deterministic=True)),
        message.delay_ms,
        message.at_ms,
        message.group or "",
        lock,
        message.unique_ms or 0,
    )
