"""Read arguments that are stored apart from their message."""

from __future__ import annotations

import logging
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

from nbqueue.broker.large_values import read_arguments
from nbqueue.calls.detached import DetachedBody
from nbqueue.calls.payloads import detached_arguments
from nbqueue.errors import SignatureError
from nbqueue.transport.resp import ReplyError, is_transient
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks.attempt import Attempt

log = logging.getLogger("nbqueue.worker")

_PAUSE = 0.5


class _Reading(NamedTuple):
    attempt: Attempt
    body: DetachedBody
    then: Callable[[Attempt], None]


class LargeArguments:
    """Reads the arguments of attempts that are held already.

    Only arguments that the signed head of the payload names are read. Arguments that are missing
    are refused when the attempt is verified.
    """

    def __init__(self, context: ServiceContext) -> None:
        self._reactor = context.reactor
        self._connections = context.connections
        self._keys = context.keys
        self.under_way: dict[int, _Reading] = {}
        """Attempts that wait for their arguments, by their numbers."""
        context.connections.on_up.append(self._read_all_again)

    def read(self, attempt: Attempt, then: Callable[[Attempt], None]) -> bool:
        """Read the arguments of ``attempt``, then call ``then(attempt)``.

        Calls it even if some are missing.

        Returns False if its arguments are not stored apart.
        """
        body = self._detached_body(attempt)
        if body is None:
            return False
        reading = self.under_way[attempt.number] = _Reading(attempt, body, then)
        self._read(reading)
        return True

    def give_up(self) -> list[Attempt]:
        """Stop reading; return the attempts that waited."""
        attempts = [reading.attempt for reading in self.under_way.values()]
        self.under_way.clear()
        return attempts

    def take_out(self, task_id: str) -> list[Attempt]:
        """Stop reading for tasks with this id, in any queue.

        Returns their attempts.
        """
        attempts = [each.attempt for each in self.under_way.values()]
        attempts = [attempt for attempt in attempts if attempt.task_id == task_id]
        for attempt in attempts:
            del self.under_way[attempt.number]
        return attempts

    def _detached_body(self, attempt: Attempt) -> DetachedBody | None:
        payload, message = attempt.payload, attempt.message
        try:
            if detached_arguments(payload) is None:
                return None
            body = self._keys.verify_call(
                payload, attempt.task_id, attempt.queue, message.type, only_head=True
            ).detached
        except SignatureError:
            return None
        return body if body is not None and body.size else None

    def _read(self, reading: _Reading) -> None:
        attempt, body, then = reading
        connection = self._connections.tasks(attempt.queue)
        if not connection.is_up:
            return  # read again when the connections are up
        digest = sha256()
        calls, gathering = read_arguments(
            attempt.queue, attempt.task_id, attempt.payload, body, digest
        )

        def on_end() -> None:
            if attempt.number not in self.under_way:
                return
            whole, refusal = gathering.whole(), gathering.refusal
            if isinstance(refusal, ReplyError) and is_transient(refusal):
                refused("to give arguments", refusal)
                self._reactor.after(_PAUSE, lambda: self._read_again(attempt.number))
                return
            del self.under_way[attempt.number]
            if whole is not None:
                attempt.payload = memoryview(whole)
                attempt.is_checked = digest.digest() == body.digest
            then(attempt)

        connection.gather(calls, gathering, on_end)

    def _read_all_again(self) -> None:
        for reading in list(self.under_way.values()):
            self._read(reading)

    def _read_again(self, number: int) -> None:
        reading = self.under_way.get(number)
        if reading is not None:
            self._read(reading)
