"""New tasks on their way into the store, with all their options.

An option of new tasks that the store must know of is a field of `EnqueueRequest`, and what it
changes is in `EnqueueRequest.commands`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

from nbqueue.broker.commands import aggregation, enqueue
from nbqueue.broker.commands.enqueue import LockHolder, UniqueLock
from nbqueue.runtime.buffers import Body
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.script_call import Command

BATCH = 256
"""The most tasks that one call of a script enqueues."""


_NO_LIMITS: Mapping[str, str] = {}


class EnqueueRequest(NamedTuple):
    """New tasks of one queue, with the options that they have in common."""

    queue: str
    tasks: Sequence[NewTask]
    """The tasks, or `LazyTasks`. A `LimitedTask` runs under a limit."""
    fingerprint: bytes | None = None
    """Fingerprint of the code that the tasks need."""
    blob: bytes | None = None
    """The code with that fingerprint, sent only if the store lacks it."""
    due_ms: int | None = None
    """Due time in Unix milliseconds on the store's clock; None: now."""
    group: str = ""
    """The aggregation group of the tasks."""
    lock: UniqueLock | None = None
    """The lock of a unique task, which is the only one in the request."""
    name: str | None = None
    """The name of the task, which is the only one in the request."""
    name_seconds: int = 0
    """Seconds for which the store keeps that name."""
    limits: Mapping[str, str] = _NO_LIMITS
    """The limits of the tasks by name, with their numbers as `Limit.numbers` has them."""
    after: Sequence[Command[Any]] = ()
    """Commands about other keys that run once the tasks are written, in the same round trip."""

    @property
    def ids(self) -> Sequence[str]:
        """The ids of the tasks, in order."""
        tasks = self.tasks
        return tasks.ids if type(tasks) is LazyTasks else [task.task_id for task in tasks]

    def preparations(self, now_ms: int, with_code: bool) -> list[Command[Any]]:
        """Return the commands to run before the tasks are enqueued."""
        found: list[Command[Any]] = []
        if self.group and self.due_ms is not None:
            found.append(aggregation.note_groups(self.queue, [self.group], self.due_ms))
        if with_code and self.fingerprint is not None and self.blob is not None:
            found.append(enqueue.store_code(self.queue, self.fingerprint, self.blob, now_ms))
        return found

    def commands(self, now_ms: int, repeated: bool) -> Iterator[Command[Any]]:
        """Yield the commands that enqueue the tasks, each made when it is asked for.

        ``repeated``: tasks that an earlier try wrote are no conflicts.
        """
        queue, code, due_ms, group = self.queue, self.fingerprint, self.due_ms, self.group
        if self.lock is not None:
            [task] = self.tasks
            yield enqueue.enqueue_unique(
                queue,
                task,
                self.lock,
                now_ms,
                due_ms=due_ms,
                fingerprint=code,
                repeated=repeated,
                group=group,
            )
            return
        for start in range(0, len(self.tasks), BATCH):
            part = self.tasks[start : start + BATCH]
            if due_ms is not None:
                later = [(task, due_ms) for task in part]
                yield enqueue.schedule(queue, later, now_ms, code, repeated, group)
            elif group:
                yield aggregation.add_to_group(queue, group, part, now_ms, repeated)
            else:
                yield enqueue.enqueue(queue, part, now_ms, code, repeated)


NO_OPTIONS = EnqueueRequest("", ())[4:]
"""The end of a request, from its fifth field on, in which no option is set."""


class EnqueueResult(NamedTuple):
    """The result of a request."""

    conflicts: Sequence[int] = ()
    """Positions of tasks whose id existed already; those were not written."""
    holder: LockHolder | None = None
    """The task that holds the unique lock; if there is one, nothing was written."""


ENQUEUED = EnqueueResult()


def read_replies(replies: Sequence[Any]) -> EnqueueResult | None:
    """Read the replies to `EnqueueRequest.commands`; None if the store lacks the code."""
    conflicts: list[int] = []
    for batch, reply in enumerate(replies):
        if reply is None or reply == "NOCODE":
            return None
        if isinstance(reply, LockHolder):
            return EnqueueResult(holder=reply)
        found = {"ENQUEUED": [], "EXISTS": [0]}[reply] if isinstance(reply, str) else reply
        conflicts += [batch * BATCH + i for i in found]
    return EnqueueResult(conflicts) if conflicts else ENQUEUED


class LazyTasks(Sequence[NewTask]):
    """New tasks that are made one by one, while the store writes earlier ones."""

    def __init__(
        self,
        ids: Sequence[str],
        bodies: Sequence[Body],
        make: Callable[[str, Body, int], NewTask],
        first: int = 0,
    ) -> None:
        """``make`` makes a task of its id, its body and its number, which counts from ``first``."""
        self.ids = ids
        self._bodies = bodies
        self._make = make
        self._first = first

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> NewTask: ...
    @overload
    def __getitem__(self, index: slice) -> list[NewTask]: ...
    def __getitem__(self, index: int | slice) -> NewTask | list[NewTask]:
        numbers = range(self._first, self._first + len(self.ids))
        if isinstance(index, slice):
            return list(map(self._make, self.ids[index], self._bodies[index], numbers[index]))
        return self._make(self.ids[index], self._bodies[index], numbers[index])
