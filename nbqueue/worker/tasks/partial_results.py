"""Sign partial results of running tasks, and write them to the store.

Only the last one counts: at most one write of each task is under way, and a newer result replaces
one that waits. After a loss of the store, results that it has not acknowledged are written again.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from nbqueue.broker.commands.lifecycle import write_result
from nbqueue.calls import payloads
from nbqueue.calls.keys.signing import Keyring
from nbqueue.executor import pipe
from nbqueue.transport.resp import ReplyError
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks.attempt import Attempt

log = logging.getLogger("nbqueue.worker")


class PartialResults:
    """Takes reports with partial results; others are ignored."""

    def __init__(self, context: ServiceContext) -> None:
        self._connections = context.connections
        self._keys = context.keys
        self._latest: dict[int, tuple[Attempt, bytes]] = {}
        self._under_way: set[int] = set()
        context.connections.on_down.append(self._under_way.clear)
        context.connections.on_up.append(self._write_again)

    def take(self, attempt: Attempt, kind: int, body: bytes) -> None:
        """Write a partial result, at once or after the current write."""
        if kind == pipe.RESULT_REPORT:
            self._latest[attempt.number] = (attempt, body)
            if attempt.number not in self._under_way:
                self._write(attempt.number)

    def finish(self, attempt: Attempt, outcome: int | None) -> None:
        """Write the last partial result before the outcome.

        Not if the task returned a value.
        """
        if not self._latest and not self._under_way:
            return
        number, keep = attempt.number, outcome != pipe.VALUE
        if keep and not self._connections.tasks(attempt.queue).is_up:
            return  # it is written when the store is back, before the outcome
        if keep and number in self._latest and number in self._under_way:
            self._write(number)
        self._latest.pop(number, None)
        self._under_way.discard(number)

    def _write(self, number: int) -> None:
        attempt, body = self._latest[number]
        connection = self._connections.tasks(attempt.queue)
        if not connection.is_up:
            return
        self._under_way.add(number)
        envelope = report_envelope(self._keys, attempt, body)
        connection.send(
            write_result(attempt.queue, attempt.task_id, attempt.fence, envelope),
            partial(self._on_reply, number, body),
        )

    def _on_reply(self, number: int, body: bytes, reply: Any) -> None:
        self._under_way.discard(number)
        if isinstance(reply, ReplyError):
            refused("a reported result", reply)
        found = self._latest.get(number)
        if found is None:
            return
        if found[1] is body:
            del self._latest[number]
        else:
            self._write(number)

    def _write_again(self) -> None:
        for number in list(self._latest):
            self._write(number)


def report_envelope(keys: Keyring, attempt: Attempt, body: bytes) -> bytes:
    """Return a partial result as stored.

    It is signed if a client will unpickle it.
    """
    if attempt.call is None or attempt.has_json_result:
        return body
    return keys.sign_result(payloads.pack_result(payloads.REPORTED, body), attempt.task_id)
