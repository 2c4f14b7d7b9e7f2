"""What a task can know about itself."""

from __future__ import annotations

import json
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Task:
    """The task that runs, as its own code sees it.

    ``attempt`` is 1 on the first run; ``deadline`` (UTC) is when this attempt must end, or None.
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
        """The payload, read as JSON. Raises `ValueError` if it is none."""
        return json.loads(self.payload)


_current: ContextVar[Task] = ContextVar("nbqueue.current_task")


def current_task() -> Task | None:
    """Return the task that this code runs in, or None outside of a worker.

    >>> def train(lr):
    ...     task = nbqueue.current_task()
    ...     if task and task.attempt > 1:
    ...         print("second try")
    """
    return _current.get(None)


set_current = _current.set
reset_current = _current.reset
