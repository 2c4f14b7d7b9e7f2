"""Queues with many tasks, filled quickly."""

from __future__ import annotations

from nbqueue.broker.new_tasks import EnqueueRequest
from nbqueue.client.client import Client
from nbqueue.tasks.new_task import NewTask
from nbqueue.wire.messages import TaskMessage


def fill(client: Client, count: int, queue: str = "default", type: str = "email") -> list[str]:
    """Enqueue messages with the ids ``t000000``, ``t000001`` and so on; return the ids."""
    tasks = []
    for number in range(count):
        task_id = f"t{number:06d}"
        message = TaskMessage(id=task_id, type=type, queue=queue, payload=b"{}", timeout=60)
        tasks.append(NewTask(task_id, message.SerializeToString()))
    for first in range(0, count, 5000):
        client._session.broker.enqueue(EnqueueRequest(queue, tasks[first : first + 5000]))
    return [task.task_id for task in tasks]
