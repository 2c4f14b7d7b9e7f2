"""A message of a type with a payload, for any worker that speaks Asynq."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbqueue.client.futures.future import TaskFuture
from nbqueue.client.futures.task_facts import TaskFacts
from nbqueue.client.submitting.prepared_task import PreparedTask
from nbqueue.client.submitting.resolved_options import Defaults, ResolvedOptions
from nbqueue.errors import UsageError
from nbqueue.options import TaskOptions
from nbqueue.tasks.aggregation_group import check_type, encoded_payload
from nbqueue.tasks.new_task import NewTask
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.timeouts import TIMEOUTS_HEADER, timeouts_text

if TYPE_CHECKING:
    from nbqueue.client.session import Session

DEFAULTS = Defaults(retry=25, timeout=1800, retention=0.0)
"""The options of a message that are left out, as Asynq has them."""

_MESSAGE_REST = 1_000
"""Approximate bytes of a message besides its payload."""


def enqueue_message(
    session: Session, changes: Mapping[str, Any], type: str, payload: Any
) -> TaskFuture[Any]:
    """Enqueue a message with these options; see `Client.enqueue`."""
    session.check_open()
    message = PreparedMessage(session, TaskOptions().merged(changes), type, payload)
    task_id = message.options.task_id or session.ids.make()
    return message.send(message.task(task_id), ((payload,), {}))


class PreparedMessage(PreparedTask):
    """One message with its options, ready to be written."""

    def __init__(self, session: Session, options: TaskOptions, type: str, payload: Any) -> None:
        check_type(type)
        if options.on_lost != "rerun":
            raise UsageError(
                "on_lost= is for calls: Asynq's format has no word for it, and a message whose "
                "worker is lost always runs again"
            )
        if options.seed is not None:
            raise UsageError(
                f"seed={options.seed!r} is for calls: leave it out, and put a seed into the payload"
            )
        if options.fresh:
            raise UsageError(
                "fresh=True is for calls: Asynq's format has no word for it. Submit a function, or "
                "have all handlers of a worker run so with Worker(tasks_per_executor=1)"
            )
        encoded = encoded_payload(payload)
        session.check_value(len(encoded or b"") + _MESSAGE_REST, f"the payload of {type!r}")
        resolved = ResolvedOptions(options, DEFAULTS)
        is_kept = resolved.retention > 0
        facts = TaskFacts("", options.queue, type, options.name, False, is_kept=is_kept)
        super().__init__(session, resolved, facts)
        self.message.payload = encoded or b""
        if resolved.limits is not None:
            self.message.headers[TIMEOUTS_HEADER] = timeouts_text(*resolved.limits)
        self.message.group_key = self.group
        if self.is_unique:
            self.message.unique_key = queue_keys(self.queue).unique(type, encoded)

    def task(self, task_id: str) -> NewTask:
        """Make the task."""
        self.message.id = task_id
        return NewTask(task_id, self.message.SerializeToString(deterministic=True))
