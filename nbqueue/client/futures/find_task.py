"""Find a task by its id or name, and return its future."""

from __future__ import annotations

from typing import Any

from nbqueue.calls.payloads import is_call
from nbqueue.client.futures.future import TaskFuture, attach
from nbqueue.client.futures.task_facts import TaskFacts
from nbqueue.client.results.json_results import has_json_result
from nbqueue.client.results.outcome import end_of
from nbqueue.client.session import Session
from nbqueue.client.task_groups.stored_groups import find_member
from nbqueue.errors import TaskNotFound, UsageError
from nbqueue.names import check_encodable
from nbqueue.wire import states


def find_task(session: Session, task_id_or_name: str) -> TaskFuture[Any]:
    """Return the future of a task; see `Client.get`."""
    session.check_open()
    if not isinstance(task_id_or_name, str) or not task_id_or_name:
        raise UsageError(f"{task_id_or_name!r} is neither the id nor the name of a task")
    check_encodable(task_id_or_name)
    broker = session.broker
    record = broker.find(task_id_or_name)
    name = None
    if record is None:
        name, found = task_id_or_name, session.find_by_name(task_id_or_name)
        if found is None:
            found = find_member(session, task_id_or_name)
        record = broker.find(found[1], found[0])
        if record is None:
            raise TaskNotFound(
                f"the task {found[1]}, the newest with the name {name!r}, is no longer in the "
                "store: its retention is over, or it was deleted",
                found[1],
            )
    message = record.message
    is_json = has_json_result(session.keyring, record.queue, message)
    calls = is_call(message.payload)
    is_kept = not calls and message.retention > 0
    about = TaskFacts(message.id, record.queue, message.type, name, calls, is_json, is_kept)
    if record.state in states.FINAL:
        future: TaskFuture[Any] = TaskFuture(session, about)
        future._take(((message.id, end_of(record)),))
    else:
        future = attach(session, about)
    future._notice(message.id, record.state)
    future._attempt = record.attempt
    return future
