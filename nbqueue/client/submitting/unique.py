"""Enqueuing a task that is to be the only one of its kind, and what to do if it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nbqueue.broker.commands.lifecycle import LockHolder, NewTask
from nbqueue.client.futures.future import TaskFuture, attach
from nbqueue.client.futures.json_results import has_json_result
from nbqueue.client.submitting.prepared_call import PreparedTask, id_conflict
from nbqueue.errors import TaskIdConflict, TaskNotUnique

if TYPE_CHECKING:
    from nbqueue.client.session import Session

_TRIES = 10


def send_unique(unsent: PreparedTask, make: Callable[[str], NewTask]) -> TaskFuture[Any]:
    """Write a unique task, or do what its options say if another holds its lock.

    Raises `TaskNotUnique` and `TaskIdConflict`.
    """
    session, options = unsent.session, unsent.terms.options
    holder = LockHolder("", "")
    for _ in range(_TRIES):
        task = make(options.task_id or session.make_id())
        found = _write(unsent, session, task)
        if isinstance(found, TaskFuture):
            unsent.write_name(task.task_id)
            return found
        holder = found
        if options.on_conflict != "existing":
            break
        record = session.broker.find(holder.task_id, unsent.queue)
        if record is not None:
            is_json = has_json_result(session.keyring, unsent.queue, record.message)
            about = unsent.about._replace(task_id=holder.task_id, name=None, is_json=is_json)
            future = attach(session, about)
            future._notice(holder.task_id, record.state)
            return future
        # It ended meanwhile, so that the next try may find the lock free.
    kind = unsent.about.type
    advice = (
        "one that runs cannot be replaced"
        if options.on_conflict == "replace"
        else "wait for that one, or choose with on_conflict= what to do then"
    )
    raise TaskNotUnique(
        f"the task {holder.task_id!r} ({holder.state}) in queue {unsent.queue!r} is the same "
        f"{kind!r}, and keeps others away by unique=: {advice}",
        holder.task_id,
        holder.state,
    )


def _write(unsent: PreparedTask, session: Session, task: NewTask) -> TaskFuture[Any] | LockHolder:
    queue, task_id = unsent.queue, task.task_id
    listener, future = session.listener, unsent.future(task_id)
    try:
        generation = unsent.expect((task_id,), future)
        holder = unsent.write_unique(task)
        if holder is None:
            listener.entered(queue, (task_id,), generation, not unsent.about.is_call)
            return future
    except TaskIdConflict:
        listener.forget(queue, (task_id,), future)
        raise id_conflict(queue, task_id) from None
    except BaseException:
        listener.forget(queue, (task_id,), future)
        raise
    listener.forget(queue, (task_id,), future)
    return holder
