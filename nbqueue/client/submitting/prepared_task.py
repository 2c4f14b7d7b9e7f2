"""New tasks of one kind, calls or messages, with their options resolved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbqueue.broker.commands.enqueue import UniqueLock
from nbqueue.broker.commands.limits import limited
from nbqueue.broker.new_tasks import EnqueueRequest
from nbqueue.client.futures.future import TaskFuture
from nbqueue.client.futures.task_facts import TaskFacts
from nbqueue.client.submitting.unique import future_of_holder, not_unique
from nbqueue.clock import to_ms_up
from nbqueue.errors import TaskIdConflict
from nbqueue.wire import states
from nbqueue.wire.messages import TaskMessage

if TYPE_CHECKING:
    from nbqueue.broker.commands.enqueue import LockHolder
    from nbqueue.client.completion.awaited_tasks import Sink
    from nbqueue.client.session import Session
    from nbqueue.client.submitting.resolved_options import ResolvedOptions
    from nbqueue.tasks.new_task import NewTask

Arguments = tuple[Sequence[Any], Mapping[str, Any]]
"""Arguments of one call: by position and by name."""

NAME_SECONDS = 90 * 86_400
"""Seconds for which the store keeps the name of a task at least."""

_TRIES = 10


class PreparedTask:
    """Writes tasks that have the same options; the base of calls and messages.

    An option that the store must know of is resolved in `request`.
    """

    fingerprint: bytes | None = None
    """Fingerprint of the code that the tasks need in the store; None for a message."""
    blob: bytes | None = None
    """The code with this fingerprint."""

    def __init__(self, session: Session, resolved: ResolvedOptions, facts: TaskFacts) -> None:
        resolved.options.check_whole()
        self.session = session
        self.resolved = resolved
        self.options = resolved.options
        self.queue = facts.queue
        self.facts = facts
        self.group = self.options.group or ""
        self.message = TaskMessage()
        self.message.CopyFrom(resolved.message)
        self.message.type = facts.type
        self._is_for_now = self.options.at is None and not resolved.delay
        self.is_unique = resolved.unique_ms is not None
        """True if one task of this kind at a time may be in the store."""
        self._is_plain = self._is_for_now and not (
            self.group or self.is_unique or self.options.limit or facts.name
        )
        self._facts_rest = facts[1:]

    def send(self, task: NewTask, arguments: Arguments) -> TaskFuture[Any]:
        """Write one task, and return its future.

        Raises `TaskIdConflict`, `TaskNotUnique` and as `Broker.enqueue` does.
        """
        task_id = task.task_id
        request = self.request((task,), (arguments,), self.facts.name)
        # Not by the slower call of a class of named tuples: one is made for each task.
        facts = tuple.__new__(TaskFacts, (task_id, *self._facts_rest))
        for _ in range(_TRIES):
            future: TaskFuture[Any] = TaskFuture(self.session, facts)
            if request.due_ms is not None:
                future._notice(task_id, states.SCHEDULED)
            elif self.group:
                future._notice(task_id, states.AGGREGATING)
            holder = self.enqueue(request, (task_id,), future)
            if holder is None:
                return future
            if self.options.on_conflict != "existing":
                break
            found = future_of_holder(self, holder)
            if found is not None:
                return found
            # The holder has ended meanwhile, so the next try may find the lock free.
        assert holder is not None
        raise not_unique(self, holder)

    def request(
        self,
        tasks: Sequence[NewTask],
        arguments: Sequence[Arguments] = (),
        name: str | None = None,
    ) -> EnqueueRequest:
        """Return the request that writes these tasks.

        ``arguments`` of each task choose its limit. ``name`` is that of a single task.
        """
        if self._is_plain:
            return EnqueueRequest(self.queue, tasks, self.fingerprint, self.blob)
        limit = self.options.limit
        limits: dict[str, str] = {}
        if limit is not None:
            names = [limit.name_for(*each) for each in arguments]
            tasks = [limited(task, each) for task, each in zip(tasks, names, strict=True)]
            limits = dict.fromkeys(names, limit.numbers)
        due_ms = self._due_ms()
        return EnqueueRequest(
            *(self.queue, tasks, self.fingerprint, self.blob, due_ms, self.group),
            lock=self._lock(),
            name=name,
            name_seconds=self._name_seconds(due_ms),
            limits=limits,
        )

    def enqueue(self, request: EnqueueRequest, ids: Sequence[str], sink: Sink) -> LockHolder | None:
        """Write the tasks of a request; their ends go to ``sink``.

        Returns the task that holds the unique lock, if another one does. Then nothing was written.
        Raises `TaskIdConflict` and as `Broker.enqueue` does.
        """
        session, queue, is_written = self.session, self.queue, False
        listener = session.listener
        try:
            # Before the tasks are written, as an end may be announced before that is confirmed.
            if self.options.task_id is None:
                connection = listener.expect(queue, ids, sink)
            else:
                connection = self._expect_named(ids[0], sink)
            result = session.broker.enqueue(request)
            if result.conflicts:
                raise _id_conflict(queue, ids[result.conflicts[0]])
            if result.holder is None:
                listener.written(queue, ids, connection, not self.facts.is_call)
                is_written = True
        finally:
            if not is_written:
                listener.forget(queue, ids, sink)
        return result.holder

    def _expect_named(self, task_id: str, sink: Sink) -> int:
        """Register ``sink`` for a task whose id was chosen, so that another task may have it."""
        listener, queue = self.session.listener, self.queue
        while (connection := listener.expect_named(queue, task_id, sink)) is None:
            # A task of this id is awaited here. It is in the store, or will not end any more.
            if self.session.broker.states(queue, (task_id,)) != [None]:
                raise _id_conflict(queue, task_id)
            listener.end_missing(queue, task_id)
        return connection

    def _lock(self) -> UniqueLock | None:
        unique_ms, on_conflict = self.resolved.unique_ms, self.options.on_conflict
        if unique_ms is None:
            return None
        return UniqueLock(
            self.message.unique_key,
            unique_ms,
            replaces_holder=on_conflict == "replace",
            waits_for_holder=on_conflict == "after",
        )

    def _due_ms(self) -> int | None:
        """The time at which the tasks are due, on the store's clock; None for now."""
        if self._is_for_now:
            return None
        now_ms = self.session.clock.now_ms()
        at = self.options.at
        due_ms = now_ms + round(self.resolved.delay * 1000) if at is None else to_ms_up(at)
        return due_ms if due_ms > now_ms else None

    def _name_seconds(self, due_ms: int | None) -> int:
        delay = 0.0 if due_ms is None else (due_ms - self.session.clock.now_ms()) / 1000
        return max(NAME_SECONDS, math.ceil(delay + self.resolved.retention) + 86_400)


def _id_conflict(queue: str, task_id: str) -> TaskIdConflict:
    return TaskIdConflict(
        f"a task with the id {task_id!r} exists in queue {queue!r} already: choose "
        f"another, leave task_id out, or wait for that one with q.get({task_id!r})",
        task_id,
    )
