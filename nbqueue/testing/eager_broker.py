"""A broker without a store: it runs tasks instead of writing them."""

from __future__ import annotations

import itertools
import secrets
import socket
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands import failure
from nbqueue.broker.commands.enqueue import LockHolder
from nbqueue.broker.commands.lifecycle import Fetched
from nbqueue.broker.known_limits import KnownLimits
from nbqueue.broker.new_tasks import EnqueueRequest, EnqueueResult
from nbqueue.broker.reads.task_record import TaskRecord
from nbqueue.calls.keys.signing import Keyring
from nbqueue.client.results.outcome import DELETED, RawOutcome, end_of
from nbqueue.clock import Clock
from nbqueue.errors import NbqueueError
from nbqueue.executor.pipe import DoneFrame
from nbqueue.tasks.new_task import NewTask
from nbqueue.testing.local_attempts import NO_OWNER, LocalAttempts
from nbqueue.transport.script_call import Arg, Command
from nbqueue.transport.topology import ANYWHERE, Place
from nbqueue.wire import states
from nbqueue.wire.keys import stored_keys
from nbqueue.wire.messages import TaskMessage, with_completed_at
from nbqueue.worker.tasks import decisions
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.task_outcomes import error_envelope, result_envelope
from nbqueue.worker.worker import Worker

MOST_ATTEMPTS = 1000
"""The maximum attempts at a task.

A task whose failures use up no retry would never end.
"""


_HAS_NO_EFFECT = ("set_limit", "remove_limit", "record_task_group", "name_task_group")


class EagerBroker(Broker):
    """Runs tasks as they are enqueued, and keeps their records in memory."""

    def __init__(self, worker: Worker) -> None:
        self.clock = Clock()
        self.keys = Keyring([secrets.token_bytes(32)])
        self._attempts = LocalAttempts(self.keys, self.clock, worker)
        self._numbers = itertools.count(1)
        self._codes: dict[bytes, bytes] = {}
        self._records: dict[tuple[str, str], TaskRecord] = {}
        self._ends: dict[tuple[str, str], RawOutcome] = {}
        self._locks: dict[str, str] = {}
        self.known_limits = KnownLimits()
        self._names: dict[Arg, bytes] = {}
        self._rows: list[tuple[str, dict[str, str]]] = []

    # --- Enqueueing --------------------------------------------------------------------

    def enqueue(self, request: EnqueueRequest) -> EnqueueResult:
        """Run new tasks to their ends.

        Tasks of an aggregation group run as well, one by one. A unique task is refused only if a
        running task of its kind enqueues it.
        """
        if request.lock is None:
            return self._run_all_of(request)
        holder = self._locks.get(request.lock.key)
        if holder is not None:
            return EnqueueResult(holder=LockHolder(holder, states.ACTIVE))
        [self._locks[request.lock.key]] = request.ids
        try:
            return self._run_all_of(request)
        finally:
            del self._locks[request.lock.key]

    def _run_all_of(self, request: EnqueueRequest) -> EnqueueResult:
        queue = request.queue
        if request.fingerprint is not None and request.blob is not None:
            self._codes[request.fingerprint] = request.blob
        self._attempts.refresh(queue)
        conflicts: list[int] = []
        for position, task in enumerate(request.tasks):
            if (queue, task.task_id) in self._records:
                conflicts.append(position)
            else:
                self._run_to_its_end(queue, task)
        if request.name is not None and not conflicts:
            [task_id] = request.ids
            self._names[stored_keys(queue).name(request.name)] = task_id.encode()
        return EnqueueResult(conflicts)

    # --- Reading -----------------------------------------------------------------

    def end(self, queue: str, task_id: str) -> RawOutcome:
        """Return the outcome of a task."""
        return self._ends.get((queue, task_id), RawOutcome(DELETED))

    def find(self, task_id: str, queue: str | None = None) -> TaskRecord | None:
        for (name, found_id), record in self._records.items():
            if found_id == task_id and queue in (None, name):
                return record
        return None

    def queues(self) -> list[str]:
        return sorted({queue for queue, _ in self._ends})

    def attempts(
        self, queue: str, since_ms: int | None = None, limit: int | None = None
    ) -> list[dict[str, str]]:
        rows = [
            row
            for name, row in self._rows
            if name == queue and int(row["finished_at"]) >= (since_ms or 0)
        ]
        return rows if limit is None else rows[len(rows) - min(limit, len(rows)) :]

    def call(self, *calls: Sequence[Arg], on: Place) -> list[Any]:
        """Answer the few commands that clients send.

        Names are kept, nothing else is stored.
        """
        replies: list[Any] = []
        for word, key, *rest in calls:
            if word == "SET":
                self._names[key] = str(rest[0]).encode()
                replies.append(b"OK")
            elif word == "GET":
                replies.append(self._names.get(key))
            elif word == "PUBLISH":
                replies.append(0)
            elif word == "HGET":
                replies.append(None)
            elif word == "XRANGE" or str(key).startswith("nbqueue:{~group:"):
                replies.append([])
            else:
                _refuse()
        return replies

    def try_call(self, *calls: Sequence[Arg], on: Place) -> list[Any]:
        """Do the same as `call`, which returns no errors here."""
        return self.call(*calls, on=on)

    def call_each(self, calls: Iterable[tuple[Place, Sequence[Arg]]]) -> list[Any]:
        return self.call(*(words for _, words in calls), on=ANYWHERE)

    def try_call_each(self, calls: Iterable[tuple[Place, Sequence[Arg]]]) -> list[Any]:
        return self.call_each(calls)

    def run_all(self, batch: Iterable[Command[Any]]) -> list[Any]:
        """Do nothing about limits, as no task waits for others here, and record no groups.

        Other scripts are refused.
        """
        for each in batch:
            if each.script.name not in _HAS_NO_EFFECT:
                _refuse()
        return [False for _ in batch]

    def close(self) -> None:
        pass

    # --- Running -------------------------------------------------------------------------------

    def _run_to_its_end(self, queue: str, task: NewTask) -> None:
        where = queue, task.task_id
        msg, since_ns = _whole_message(task), self.clock.now_ms() * 1_000_000
        for ordinal in range(1, MOST_ATTEMPTS + 1):
            message = TaskMessage.FromString(msg)
            now_ms = self.clock.now_ms()
            fetched = Fetched(task.task_id, msg, since_ns, ordinal, 0)
            attempt = Attempt(next(self._numbers), queue, fetched, message, "", now_ms, NO_OWNER)
            self._records[where] = _record(attempt, states.ACTIVE)
            try:
                answer, reported = self._attempts.run(
                    attempt, lambda _, code: self._codes.get(code)
                )
            except BaseException:
                del self._records[where]
                raise
            decision: decisions.Decision
            if isinstance(answer, DoneFrame):
                decision = decisions.after_done(attempt, answer)
            else:
                decision = answer.decision
            if isinstance(decision, decisions.Retry):
                self._note(attempt, "retry", decision)
                now_ms = self.clock.now_ms()
                msg = failure.failed_message(
                    msg, decision.error_text, now_ms, counts=decision.counts
                )
                continue
            if isinstance(decision, decisions.Archive):
                self._note(attempt, states.ARCHIVED, decision)
                body, error = b"", None
                if isinstance(answer, DoneFrame):
                    body = bytes(answer.body)
                else:
                    error = answer.error
                signed = error_envelope(self.keys, attempt, decision, body, error)
                self._archived(attempt, decision, signed, reported)
            else:
                assert isinstance(answer, DoneFrame)
                self._note(attempt, states.COMPLETED)
                self._completed(attempt, answer, isinstance(decision, decisions.Complete))
            return
        raise NbqueueError(
            f"task {task.task_id} ({message.type}) was tried {MOST_ATTEMPTS} times and asks for "
            "another: its errors use up no retry"
        )

    def _completed(self, attempt: Attempt, done: DoneFrame, is_complete: bool) -> None:
        where = attempt.queue, attempt.task_id
        result = result_envelope(self.keys, attempt, done).whole
        if is_complete and attempt.message.retention > 0:
            msg = bytes(with_completed_at(attempt.msg, self.clock.now_ms() // 1000))
            attempt.message = TaskMessage.FromString(msg)
            self._records[where] = record = _record(attempt, states.COMPLETED, result)
            self._ends[where] = end_of(record)
        else:
            del self._records[where]
            self._ends[where] = RawOutcome(DELETED, result)

    def _archived(
        self, attempt: Attempt, decision: decisions.Archive, error: bytes, reported: bytes | None
    ) -> None:
        text, where = decision.error_text, (attempt.queue, attempt.task_id)
        msg = failure.failed_message(attempt.msg, text, self.clock.now_ms(), counts=False)
        attempt.message = TaskMessage.FromString(msg)
        self._records[where] = record = _record(attempt, states.ARCHIVED, reported, error)
        self._ends[where] = end_of(record)

    def _note(
        self,
        attempt: Attempt,
        outcome: str,
        decision: decisions.Retry | decisions.Archive | None = None,
    ) -> None:
        """Add a row to the attempts."""
        row = {
            "task_id": attempt.task_id,
            "type": attempt.message.type,
            "attempt": str(attempt.ordinal),
            "started_at": str(attempt.fetched_ms),
            "finished_at": str(self.clock.now_ms()),
            "waited": str(attempt.waited_ms(attempt.fetched_ms)),
            "worker": "eager",
            "host": socket.gethostname(),
            "outcome": outcome,
            "peak_memory": "0",
        }
        if decision is not None:
            row |= {"reason": decision.reason, "error": decision.error_text}
        self._rows.append((attempt.queue, row))


def _whole_message(task: NewTask) -> bytes:
    """Return a new task's message with its detached arguments put back in."""
    msg = bytes(task.msg)
    if not task.detached:
        return msg
    message = TaskMessage.FromString(msg)
    message.payload = b"".join(map(bytes, (message.payload, *task.detached)))
    return message.SerializeToString(deterministic=True)


def _record(
    attempt: Attempt, task_state: str, result: bytes | None = None, error: bytes | None = None
) -> TaskRecord:
    return TaskRecord(
        attempt.queue, attempt.message, task_state, result, error, None, None, attempt.ordinal, 0
    )


def _refuse() -> NoReturn:
    raise NbqueueError(
        "this needs a store, and an eager client has none: use the fixture nbqueue_client, or "
        "nbqueue.connect()"
    )
