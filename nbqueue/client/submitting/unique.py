"""Unique tasks that find another one holding their lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbqueue.client.futures.future import TaskFuture, attach
from nbqueue.client.results.json_results import has_json_result
from nbqueue.errors import TaskNotUnique

if TYPE_CHECKING:
    from nbqueue.broker.commands.enqueue import LockHolder
    from nbqueue.client.submitting.prepared_task import PreparedTask


def future_of_holder(prepared: PreparedTask, holder: LockHolder) -> TaskFuture[Any] | None:
    """Return the future of the task that holds the lock; None if it is gone."""
    session, queue = prepared.session, prepared.queue
    record = session.broker.find(holder.task_id, queue)
    if record is None:
        return None
    is_json = has_json_result(session.keyring, queue, record.message)
    facts = prepared.facts._replace(task_id=holder.task_id, name=None, is_json=is_json)
    future = attach(session, facts)
    future._notice(holder.task_id, record.state)
    return future


def not_unique(prepared: PreparedTask, holder: LockHolder) -> TaskNotUnique:
    """Return the error for a task whose lock another one holds."""
    advice = (
        "one that runs cannot be replaced"
        if prepared.options.on_conflict == "replace"
        else "wait for that one, or choose with on_conflict= what to do then"
    )
    return TaskNotUnique(
        f"the task {holder.task_id!r} ({holder.state}) in queue {prepared.queue!r} is the same "
        f"{prepared.facts.type!r}, and keeps others away by unique=: {advice}",
        holder.task_id,
        holder.state,
    )
