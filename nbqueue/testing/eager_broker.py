"""What stands for the broker where there is no store: it runs tasks instead of writing them."""

from __future__ import annotations

import itertools
import secrets
import socket
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.lifecycle import Arg, Command, LockHolder, NewTask
from nbqueue.broker.reads.task_record import TaskRecord
from nbqueue.calls.keys.signing import Keyring
from nbqueue.client.futures.outcome import DELETED, RawOutcome, end_of
from nbqueue.clock import Clock
from nbqueue.errors import NbqueueError, TaskIdConflict
from nbqueue.executor.pipe import DoneFrame
from nbqueue.testing.local_attempts import Attempts
from nbqueue.transport.topology import ANYWHERE, Place
from nbqueue.wire import states
from nbqueue.wire.messages import TaskMessage, with_completed_at
from nbqueue.worker.tasks import decisions
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.outcome_commands import error_envelope, result_envelope
from nbqueue.worker.worker import Worker

MOST_ATTEMPTS = 1000
"""A task that asks for more, without a failure that counts, would never end."""


class EagerBroker(Broker):
    """Runs what is enqueued, and remembers what came of it for as long as it lives."""

    def __init__(self, worker: Worker) -> None:
        self.clock = Clock()
        self.keys = Keyring([secrets.token_bytes(32)])
        self._attempts = Attempts(self.keys, self.clock, worker)
        self._numbers = itertools.count(1)
        self._codes: dict[bytes, bytes] = {}
        self._records: dict[tuple[str, str], TaskRecord] = {}
        self._ends: dict[tuple[str, str], RawOutcome] = {}
        self._locks: dict[str, str] = {}
        self._names: dict[Arg, bytes] = {}
        self._rows: list[tuple[str, dict[str, str]]] = []

    # --- What producers ask --------------------------------------------------------------------

    def enqueue(
        self,
        queue: str,
        tasks: Sequence[NewTask],
        due_ms: int | None = None,
        fingerprint: bytes | None = None,
        blob: bytes | None = None,
        group: str = "",
        *,
        repeated: bool = False,
        was_sent: bool = False,
    ) -> list[int]:
        """Run these tasks to their ends; returns the positions of those whose id exists.

        Those of an aggregation group run, too, each by itself: nothing waits for others here.
        """
        if fingerprint is not None and blob is not None:
            self._codes[fingerprint] = blob
        self._attempts.refresh(queue)
        conflicts: list[int] = []
        for position, task in enumerate(tasks):
            if (queue, task.task_id) in self._records:
                conflicts.append(position)
            else:
                self._run_to_its_end(queue, task)
        return conflicts

    def enqueue_one(self, *_: object) -> None:
        """Leave it to `enqueue`, as for want of its code."""

    def enqueue_unique(
        self,
        queue: str,
        task: NewTask,
        lock: str,
        lock_ms: int,
        *,
        due_ms: int | None = None,
        replace: bool = False,
        after: bool = False,
        fingerprint: bytes | None = None,
        blob: bytes | None = None,
        group: str = "",
    ) -> LockHolder | None:
        """Run a task, unless one of its kind runs: within which this is called, that is."""
        holder = self._locks.get(lock)
        if holder is not None:
            return LockHolder(holder, states.ACTIVE)
        self._locks[lock] = task.task_id
        try:
            if self.enqueue(queue, [task], due_ms, fingerprint, blob):
                raise TaskIdConflict(f"the id {task.task_id!r} exists", task.task_id)
        finally:
            del self._locks[lock]
        return None

    # --- What is known of them -----------------------------------------------------------------

    def end(self, queue: str, task_id: str) -> RawOutcome:
        """How a task ended."""
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
        """Only the names of tasks are kept, and nobody listens. Output goes where it is printed."""
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
            elif word == "XRANGE":
                replies.append([])
            else:
                _refuse()
        return replies

    def try_call(self, *calls: Sequence[Arg], on: Place) -> list[Any]:
        """As `call`: no key here holds anything else than it should."""
        return self.call(*calls, on=on)

    def call_each(self, calls: Iterable[tuple[Place, Sequence[Arg]]]) -> list[Any]:
        return self.call(*(words for _, words in calls), on=ANYWHERE)

    def try_call_each(self, calls: Iterable[tuple[Place, Sequence[Arg]]]) -> list[Any]:
        return self.call_each(calls)

    def run_all(self, batch: Iterable[Command[Any]]) -> list[Any]:
        """Names are noted. Limits are only said: nothing waits for others here, nor for these."""
        for each in batch:
            if each.script.name == "name_task":
                self._names[each.keys[1]] = str(each.args[0]).encode()
            elif each.script.name not in ("set_limit", "remove_limit"):
                _refuse()
        return [False for _ in batch]

    def close(self) -> None:
        pass

    # --- Running -------------------------------------------------------------------------------

    def _run_to_its_end(self, queue: str, task: NewTask) -> None:
        where = queue, task.task_id
        msg, since_ns = _whole_message(task), self.clock.now_ms() * 1_000_000
        for attempt in range(1, MOST_ATTEMPTS + 1):
            message = TaskMessage.FromString(msg)
            now_ms = self.clock.now_ms()
            run = Attempt(
                next(self._numbers), task.task_id, queue, msg, message, "", attempt, 0,
                since_ns, now_ms,
            )  # fmt: skip
            self._records[where] = _record(run, states.ACTIVE)
            try:
                answer, reported = self._attempts.run(run, lambda _, code: self._codes.get(code))
            except BaseException:
                del self._records[where]
                raise
            decision: decisions.Decision
            if isinstance(answer, DoneFrame):
                decision = decisions.after_done(run, answer)
            else:
                decision = answer.decision
            if isinstance(decision, decisions.Retry):
                self._note(run, "retry", decision)
                now_ms = self.clock.now_ms()
                msg = lifecycle.failed_message(
                    msg, decision.error_text, now_ms, counts=decision.counts
                )
                continue
            if isinstance(decision, decisions.Archive):
                self._note(run, states.ARCHIVED, decision)
                body, error = b"", None
                if isinstance(answer, DoneFrame):
                    body = bytes(answer.body)
                else:
                    error = answer.error
                signed = error_envelope(self.keys, run, decision, body, error)
                self._archived(run, decision, signed, reported)
            else:
                assert isinstance(answer, DoneFrame)
                self._note(run, states.COMPLETED)
                self._completed(run, answer, isinstance(decision, decisions.Complete))
            return
        raise NbqueueError(
            f"task {task.task_id} ({message.type}) was tried {MOST_ATTEMPTS} times and asks for "
            "another: its errors use up no retry"
        )

    def _completed(self, run: Attempt, done: DoneFrame, is_complete: bool) -> None:
        where = run.queue, run.task_id
        result = result_envelope(self.keys, run, done).whole
        if is_complete and run.message.retention > 0:
            msg = bytes(with_completed_at(run.msg, self.clock.now_ms() // 1000))
            run.message = TaskMessage.FromString(msg)
            self._records[where] = record = _record(run, states.COMPLETED, result)
            self._ends[where] = end_of(record)
        else:
            del self._records[where]
            self._ends[where] = RawOutcome(DELETED, result)

    def _archived(
        self, run: Attempt, decision: decisions.Archive, error: bytes, reported: bytes | None
    ) -> None:
        text, where = decision.error_text, (run.queue, run.task_id)
        msg = lifecycle.failed_message(run.msg, text, self.clock.now_ms(), counts=False)
        run.message = TaskMessage.FromString(msg)
        self._records[where] = record = _record(run, states.ARCHIVED, reported, error)
        self._ends[where] = end_of(record)

    def _note(
        self,
        run: Attempt,
        outcome: str,
        decision: decisions.Retry | decisions.Archive | None = None,
    ) -> None:
        """What the attempts of a store hold."""
        row = {
            "task_id": run.task_id,
            "type": run.message.type,
            "attempt": str(run.attempt),
            "started_at": str(run.fetched_ms),
            "finished_at": str(self.clock.now_ms()),
            "waited": str(run.waited_ms(run.fetched_ms)),
            "worker": "eager",
            "host": socket.gethostname(),
            "outcome": outcome,
            "peak_memory": "0",
        }
        if decision is not None:
            row |= {"reason": decision.reason, "error": decision.error_text}
        self._rows.append((run.queue, row))


def _whole_message(task: NewTask) -> bytes:
    """The message of a new task, with the arguments that would lie beside it in a store."""
    msg = bytes(task.msg)
    if not task.beside:
        return msg
    message = TaskMessage.FromString(msg)
    message.payload = b"".join(map(bytes, (message.payload, *task.beside)))
    return message.SerializeToString(deterministic=True)


def _record(
    run: Attempt, task_state: str, result: bytes | None = None, error: bytes | None = None
) -> TaskRecord:
    return TaskRecord(run.queue, run.message, task_state, result, error, None, None, run.attempt, 0)


def _refuse() -> NoReturn:
    raise NbqueueError(
        "this needs a store, and an eager client has none: use the fixture nbqueue_client, or "
        "nbqueue.connect()"
    )
