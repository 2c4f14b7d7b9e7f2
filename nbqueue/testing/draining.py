"""Run the tasks of a store in this process until none is due."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Callable, Sequence
from typing import cast

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands import lifecycle, maintenance
from nbqueue.broker.commands.failure import Who
from nbqueue.broker.commands.lifecycle import Ended, Fetched, write_result
from nbqueue.broker.large_values import whole_payload
from nbqueue.broker.staging import read_message_of
from nbqueue.calls.functions import fingerprint_of
from nbqueue.calls.keys.signing import Keyring
from nbqueue.client.client import Client
from nbqueue.errors import SignatureError
from nbqueue.executor.pipe import DoneFrame
from nbqueue.testing.local_attempts import LocalAttempts
from nbqueue.transport.script_call import Command
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import TaskMessage, read_message
from nbqueue.worker.tasks.acknowledger import Acknowledger
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.task_outcomes import TaskOutcomes
from nbqueue.worker.worker import Worker

_LEASE_MS = 600_000

_numbers = itertools.count(1)


def drain(
    client: Client,
    queues: Sequence[str] | None = None,
    *,
    worker: Worker | None = None,
    limit: int | None = None,
) -> int:
    """Run all pending tasks of a client's store in this process.

    Returns the number of attempts.

    ``queues``: only these; by default all. ``worker``: a worker with handlers, hooks and a retry
    policy, which is not started. ``limit``: stop after so many attempts. Scheduled tasks and
    retries run if they are due. Time-outs do not end a running task, and its output is printed
    here.

    >>> f = q.submit(sum, [1, 2, 3])
    >>> nbqueue.testing.drain(q)
    1
    """
    session = client._session
    drainer = _Drainer(session.broker, session.keyring, worker or Worker())
    done = 0
    while limit is None or done < limit:
        found = drainer.step(session.broker.queues() if queues is None else list(queues))
        if not found:
            break
        done += found
    return done


class _Drainer:
    """A worker in this thread, which uses the transitions of every worker."""

    def __init__(self, broker: Broker, keys: Keyring, worker: Worker) -> None:
        self._broker = broker
        host = socket.gethostname() or "unknown-host"
        self._who = Who(f"{host}:{os.getpid()}:{os.urandom(4).hex()}", host)
        self._attempts = LocalAttempts(keys, broker.clock, worker, broker.queues())
        self._outcomes = TaskOutcomes(cast("Acknowledger", self), keys, broker.clock)

    def step(self, queues: Sequence[str]) -> int:
        """Run a task of the first non-empty queue.

        Returns 1, or 0 if all queues are empty.
        """
        for queue in queues:
            now_ms = self._broker.clock.now_ms()
            self._broker.run(maintenance.forward(queue, now_ms))
            token = f"{self._who.worker}:{now_ms}:{next(_numbers)}"
            fetch = lifecycle.fetch(queue, 1, now_ms, now_ms + _LEASE_MS, token)
            for task in self._broker.run(fetch) or ():
                self._run(queue, self._whole(queue, task), token, now_ms)
                return 1
        return 0

    def _whole(self, queue: str, task: Fetched) -> Fetched:
        if task.unread:
            [msg] = self._broker.call(read_message_of(queue, task.task_id), on=queue)
            return task._replace(msg=msg or b"", unread=0)
        return task

    def _run(self, queue: str, task: Fetched, token: str, now_ms: int) -> None:
        message = read_message(task.msg) or TaskMessage()
        fence = lifecycle.token_fence(token)
        attempt = Attempt(next(_numbers), queue, task, message, fence, now_ms, self._outcomes)
        with contextlib.suppress(SignatureError):  # it is refused in a moment
            payload = attempt.payload
            whole = whole_payload(self._broker, queue, attempt.task_id, bytes(payload))
            if whole is not payload:
                attempt.payload = memoryview(whole)
        self._serve(queue)
        try:
            answer, reported = self._attempts.run(attempt, self._code)
        except BaseException:
            attempt.owner.give_back(attempt, "interrupted", "it was interrupted")
            raise
        if reported is not None:
            self._broker.run(write_result(queue, attempt.task_id, fence, reported))
        if isinstance(answer, DoneFrame):
            attempt.owner.done(attempt, answer)
        else:
            attempt.owner.refused(attempt, answer)

    def _serve(self, queue: str) -> None:
        """Load the handlers that `Client.serve` stored."""
        self._attempts.refresh(queue)
        [found] = self._broker.call(("HGETALL", queue_keys(queue).handlers), on=queue)
        self._attempts.handlers.update(queue, found)

    def _code(self, queue: str, fingerprint: bytes) -> bytes | None:
        [blob] = self._broker.call(("GET", queue_keys(queue).code(fingerprint)), on=queue)
        return blob if blob is not None and fingerprint_of(blob) == fingerprint else None

    # --- The part of an acknowledger that `TaskOutcomes` calls ---

    def completed(
        self, attempt: Attempt, ended: Ended, on_too_large: Callable[[Attempt, int], None]
    ) -> None:
        now_ms = self._broker.clock.now_ms()
        self._broker.run(lifecycle.complete(attempt.queue, [ended], now_ms, self._who))

    def ended(self, attempt: Attempt, make_command: Callable[[int, Who], Command[bool]]) -> None:
        self._broker.run(make_command(self._broker.clock.now_ms(), self._who))
