"""From a type and a payload to a message in the store, for any worker that speaks Asynq."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbqueue.broker.commands.lifecycle import NewTask
from nbqueue.client.futures.future import TaskFuture
from nbqueue.client.futures.task_facts import TaskFacts
from nbqueue.client.submitting.prepared_call import PreparedTask
from nbqueue.client.submitting.resolved_options import Defaults, ResolvedOptions
from nbqueue.errors import UsageError
from nbqueue.options import TaskOptions
from nbqueue.tasks.aggregation_group import check_type, encoded_payload
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.timeouts import TIMEOUTS_HEADER, timeouts_text

if TYPE_CHECKING:
    from nbqueue.client.session import Session

DEFAULTS = Defaults(retry=25, timeout=1800, retention=0.0)
"""Asynq's own."""

_MESSAGE_REST = 1_000
"""About how many bytes a message has besides its payload."""


def enqueue_message(
    session: Session, changes: Mapping[str, Any], type: str, payload: Any
) -> TaskFuture[Any]:
    """See `Client.enqueue`."""
    session.check_open()
    message = PreparedMessage(session, TaskOptions().merged(changes), type, payload)
    return message.send(message.task)


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
        self._payload = encoded_payload(payload)
        self._given = payload
        session.check_value(len(self._payload or b"") + _MESSAGE_REST, f"the payload of {type!r}")
        terms = ResolvedOptions(options, DEFAULTS)
        about = TaskFacts("", options.queue, type, options.name, False, is_kept=terms.retention > 0)
        super().__init__(session, terms, about)
        self._message.payload = self._payload or b""
        if self.terms.limits is not None:
            self._message.headers[TIMEOUTS_HEADER] = timeouts_text(*self.terms.limits)
        self._message.group_key = self.group
        if self.is_unique:
            self._message.unique_key = queue_keys(self.queue).unique(type, self._payload)

    def task(self, task_id: str) -> NewTask:
        self._message.id = task_id
        task = NewTask(task_id, self._message.SerializeToString(deterministic=True))
        return self.limited([task], [((self._given,), {})])[0]
