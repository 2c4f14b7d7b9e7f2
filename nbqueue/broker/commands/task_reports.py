"""What workers tell the store of a task that runs."""

from __future__ import annotations

from nbqueue.broker.script_commands import command
from nbqueue.transport.script_call import Command
from nbqueue.wire.keys import queue_keys


def write_result(queue: str, task_id: str, fence: str, result: bytes) -> Command[bool]:
    """Write what a running task has found so far. Reads as whether the caller still held it."""
    keys = queue_keys(queue)
    return command("write_result", (keys.task(task_id), keys.lease), (task_id, fence, result), bool)
