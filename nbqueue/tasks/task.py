"""The running task, as its own code sees it."""

from __future__ import annotations

import json
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from nbqueue.clock import EPOCH
from nbqueue.moved_modules import pickled_as

if TYPE_CHECKING:
    from nbqueue.executor.pipe import TaskHead


@pickled_as("nbqueue.executor.context")
@dataclass(frozen=True, slots=True)
class Task:
    """The task that runs, as its own code sees it.

    ``attempt`` is 1 for the first one; ``deadline`` (UTC) is when this attempt must end, or None.
    """

    id: str
    type: str
    queue: str
    attempt: int
    max_retry: int
    deadline: datetime | None = None
    payload: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """Return the payload, read as JSON.

        Raises `ValueError` if it is not JSON.
        """
        return json.loads(self.payload)


def make_task(head: TaskHead, payload: bytes = b"") -> Task:
    """Return the task as its own code sees it."""
    attempt, _, max_retry, deadline, task_id, queue, type_name, headers = head
    return Task(
        task_id,
        type_name,
        queue,
        attempt,
        max_retry,
        EPOCH + timedelta(seconds=deadline) if deadline else None,
        payload,
        json.loads(headers) if headers else {},
    )


# A `Task` is only made when code asks for it, which few tasks do.
_current: ContextVar[Task | TaskHead] = ContextVar("nbqueue.current_task")


@pickled_as("nbqueue.executor.context")
def current_task() -> Task | None:
    """Return the task that this code runs in, or None outside a worker.

    >>> def train(lr):
    ...     task = nbqueue.current_task()
    ...     if task and task.attempt > 1:
    ...         print("second try")
    """
    found = _current.get(None)
    if found is None or isinstance(found, Task):
        return found
    task = make_task(found)
    _current.set(task)
    return task


set_current = _current.set
reset_current = _current.reset
