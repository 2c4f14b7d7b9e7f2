"""Names of tasks: noted in the task, and kept for who looks a task up by its name."""

from __future__ import annotations

from nbqueue.broker.script_commands import command
from nbqueue.transport.script_call import Command
from nbqueue.wire.keys import queue_keys


def name_task(queue: str, task_id: str, name: str, seconds: int) -> Command[bool]:
    """Give a task its name, for so many seconds. Reads as False if the task is gone already."""
    keys = queue_keys(queue)
    return command(
        "name_task", (keys.task(task_id), keys.name(name)), (task_id, name, seconds), bool
    )
