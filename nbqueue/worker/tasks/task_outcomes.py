"""The owner of attempts at tasks: decides, signs and sends the outcomes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands.failure import Failure, Who
from nbqueue.broker.commands.lifecycle import Ended
from nbqueue.broker.large_values import result_fields
from nbqueue.calls import payloads
from nbqueue.calls.detached import describe_body
from nbqueue.calls.exceptions import dump_exception
from nbqueue.calls.keys.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.durations import format_duration
from nbqueue.errors import TaskCancelled, TaskFailed, TaskTimeout, WorkerLost
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame
from nbqueue.runtime.buffers import LARGE, Body, ChunkedBytes, Piece, parts_of
from nbqueue.tasks.result_preview import MOST_BYTES, preview_owner
from nbqueue.transport.script_call import Command
from nbqueue.wire.messages import with_completed_at
from nbqueue.worker.executors.executor_process import ExecutorExit
from nbqueue.worker.tasks import decisions
from nbqueue.worker.tasks.acknowledger import Acknowledger
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.decisions import Archive, Refusal, Requeue, Retry

log = logging.getLogger("nbqueue.worker")

_SUCCESSES = (decisions.Complete, decisions.Revoke)


class ReportSink(Protocol):
    """Stores the reports of running tasks, and drops unknown kinds."""

    def take(self, attempt: Attempt, kind: int, body: bytes) -> None:
        """Handle a report."""

    def finish(self, attempt: Attempt, outcome: int | None) -> None:
        """Write the last reports.

        ``outcome`` is the executor's, None if that was lost.
        """


class TaskOutcomes:
    """Applies `decisions` to each attempt, and passes outcomes to the acknowledger.

    It is the `AttemptOwner` of attempts at tasks. All values that a client will unpickle are signed
    here.
    """

    def __init__(
        self,
        acknowledger: Acknowledger,
        keys: Keyring,
        clock: Clock,
        sinks: Sequence[ReportSink] = (),
    ) -> None:
        self._acknowledger = acknowledger
        self._keys = keys
        self._clock = clock
        self._sinks = sinks

    def reported(self, attempt: Attempt, kind: int, body: bytes) -> None:
        """Store a report of the running task."""
        attempt.has_reported = True
        for sink in self._sinks:
            sink.take(attempt, kind, body)

    def done(self, attempt: Attempt, done: DoneFrame) -> None:
        """Settle an attempt that its executor answered."""
        if attempt.has_reported:
            self._finish_reports(attempt, done.outcome)
        decision = decisions.after_done(attempt, done)
        finished_ms = self._clock.now_ms()
        if isinstance(decision, _SUCCESSES):
            retention = attempt.message.retention if decision is decisions.COMPLETE else 0
            ended = completion(self._keys, attempt, done, finished_ms, retention)
            self._acknowledger.completed(attempt, ended, self._too_large)
            if log.isEnabledFor(logging.DEBUG):
                _log_success(attempt, done)
            return
        body = b"" if done.outcome == pipe.VALUE else bytes(done.body)
        started_ms = finished_ms - done.micros // 1000
        failure = attempt.failure(
            decision.reason, decision.error_text, started_ms, done.peak_memory
        )
        self._settle(attempt, decision, failure, body)

    def lost(self, attempt: Attempt, exit: ExecutorExit, innocent: bool) -> None:
        """Settle an attempt whose executor is gone."""
        if attempt.has_reported:
            self._finish_reports(attempt, None)
        self.settle(attempt, decisions.after_loss(attempt, exit.reason, exit.text, innocent))

    def refused(self, attempt: Attempt, refusal: Refusal) -> None:
        """Settle an attempt that does not begin."""
        self.settle(attempt, refusal.decision, refusal.error)

    def settle(
        self,
        attempt: Attempt,
        decision: Archive | Retry | Requeue,
        error: Exception | None = None,
    ) -> None:
        """Settle an attempt without an executor's answer.

        ``error`` is stored as its exception.
        """
        failure = attempt.failure(decision.reason, decision.error_text)
        self._settle(attempt, decision, failure, error=error)

    def give_back(self, attempt: Attempt, how: str, reason: str) -> None:
        """Put the task back to the front of its queue."""
        failure = attempt.failure(reason, reason)
        self._acknowledge(attempt, Requeue(how, reason, reason), failure, b"")

    def _settle(
        self,
        attempt: Attempt,
        decision: Archive | Retry | Requeue,
        failure: Failure,
        body: Piece = b"",
        error: Exception | None = None,
    ) -> None:
        if isinstance(decision, Requeue):
            _log_failure(attempt, decision.how, failure)
            self._acknowledge(attempt, decision, failure, b"")
            return
        envelope = error_envelope(self._keys, attempt, decision, body, error)
        _log_failure(attempt, "archived" if isinstance(decision, Archive) else "retry", failure)
        self._acknowledge(attempt, decision, failure, envelope)

    def _acknowledge(
        self,
        attempt: Attempt,
        decision: Archive | Retry | Requeue,
        failure: Failure,
        envelope: bytes,
    ) -> None:
        make_command = partial(failure_command, attempt, decision, failure, envelope)
        self._acknowledger.ended(attempt, make_command)

    def _too_large(self, attempt: Attempt, size: int) -> None:
        self.settle(attempt, decisions.too_large(attempt, size))

    def _finish_reports(self, attempt: Attempt, outcome: int | None) -> None:
        for sink in self._sinks:
            sink.finish(attempt, outcome)


def _log_success(attempt: Attempt, done: DoneFrame) -> None:
    log.debug(
        "task %s id=%s type=%s queue=%s attempt=%d duration=%s",
        "revoked" if done.outcome == pipe.REVOKED else "completed",
        attempt.task_id,
        attempt.message.type,
        attempt.queue,
        attempt.ordinal,
        format_duration(done.micros / 1e6),
    )


def _log_failure(attempt: Attempt, what: str, failure: Failure) -> None:
    log.warning(
        "task %s id=%s type=%s queue=%s attempt=%d reason=%s error=%r",
        what,
        attempt.task_id,
        failure.type,
        attempt.queue,
        attempt.ordinal,
        failure.reason,
        failure.error_text,
    )


_OWN_ERRORS = {"cancelled": TaskCancelled, "timeout": TaskTimeout, "lost": WorkerLost}
"""The errors for these reasons, independent of the executor's exception."""

_VALUE_HEAD = payloads.result_head(payloads.VALUE)


class SignedResult(NamedTuple):
    """A result, or the head of a large one with its pieces and fields."""

    envelope: Body
    pieces: Sequence[tuple[str, Body]] = ()

    @property
    def whole(self) -> bytes:
        """The head and all pieces."""
        return b"".join(map(bytes, (self.envelope, *(piece for _, piece in self.pieces))))


def result_envelope(keys: Keyring, attempt: Attempt, done: DoneFrame) -> SignedResult:
    """Return the result of an attempt that succeeded, as it is stored."""
    body = done.body
    if done.outcome != pipe.VALUE:
        return SignedResult(b"")
    if attempt.call is None or attempt.call.flags & payloads.JSON_RESULT:
        # Not a pickle, so not signed; programs in Go read it, too.
        return SignedResult(body if isinstance(body, bytes) else ChunkedBytes(*parts_of(body)))
    if len(body) <= LARGE:
        envelope = keys.sign_value(bytes(body), attempt.task_id)
        return tuple.__new__(SignedResult, (envelope, ()))
    parts = parts_of(body)
    if attempt.message.retention > 0 and len(attempt.msg) <= LARGE:
        detached, pieces = describe_body(parts, done.digest)
        head = keys.sign_result(payloads.result_head(payloads.VALUE, detached), attempt.task_id)
        return SignedResult(head, result_fields(detached, pieces))
    # A result that is not kept is only announced.
    head = keys.sign_result_apart(_VALUE_HEAD, parts, attempt.task_id)
    return SignedResult(ChunkedBytes(head, *parts))


def error_envelope(
    keys: Keyring,
    attempt: Attempt,
    decision: Archive | Retry,
    body: Piece = b"",
    error: Exception | None = None,
) -> bytes:
    """Return the exception of an attempt that failed, as it is stored.

    ``body`` is the exception as the executor dumped it, ``error`` one that the worker made.
    """
    own = _OWN_ERRORS.get(decision.reason)
    if own is not None or not body:
        kind = own or TaskFailed
        body = dump_exception(error or kind(decision.error_text, attempt.task_id))
    return keys.sign_result(payloads.pack_result(payloads.EXCEPTION, body), attempt.task_id)


def completion(
    keys: Keyring, attempt: Attempt, done: DoneFrame, finished_ms: int, retention: int
) -> Ended:
    """Return the completion of a task, kept for ``retention`` seconds.

    0: it is deleted.
    """
    message, keep = attempt.message, retention > 0
    result, pieces = result_envelope(keys, attempt, done)
    started_ms = finished_ms - done.micros // 1000
    now_s = finished_ms // 1000
    is_large = len(attempt.msg) > LARGE or len(result) > LARGE
    # Made once for each task, so without the slower constructor of the named tuple.
    parts = (
        attempt.task_id,
        attempt.fence,
        now_s + retention if keep else None,
        with_completed_at(attempt.msg, now_s) if keep else b"",
        result,
        message.type,
        attempt.ordinal,
        started_ms,
        finished_ms,
        attempt.waited_ms(started_ms),
        done.peak_memory,
        is_large and not message.unique_key,
        pieces,
        signed_preview(keys, attempt, done.preview) if keep and done.preview else b"",
    )
    return tuple.__new__(Ended, parts)


def signed_preview(keys: Keyring, attempt: Attempt, preview: bytes) -> bytes:
    """Return a result's preview as it is stored; empty if it is too large."""
    if len(preview) > MOST_BYTES:
        return b""
    owner = preview_owner(attempt.task_id, attempt.queue)
    return keys.sign_result(payloads.pack_result(payloads.PREVIEW, preview), owner)


def failure_command(
    attempt: Attempt,
    decision: Archive | Retry | Requeue,
    failure: Failure,
    envelope: bytes,
    now_ms: int,
    who: Who,
) -> Command[bool]:
    """Return the command for an attempt that did not succeed.

    ``envelope`` is its exception. ``who`` made the attempt, unless it was recovered from another
    worker.
    """
    queue, who = attempt.queue, attempt.holder or who
    if isinstance(decision, Requeue):
        return failure_commands.requeue(queue, failure, decision.how, now_ms, who)
    if isinstance(decision, Retry):
        counts = decision.counts
        msg = failure_commands.failed_message(
            attempt.msg, failure.error_text, now_ms, counts=counts
        )
        due_ms = now_ms + int(decision.delay * 1000)
        return failure_commands.retry(
            queue, failure, msg, due_ms, now_ms, who, counts=counts, error=envelope
        )
    msg = failure_commands.failed_message(attempt.msg, failure.error_text, now_ms, counts=False)
    on_trimmed = partial(_log_trimmed, queue)
    return failure_commands.archive(
        queue, failure, msg, now_ms, who, error=envelope, on_trimmed=on_trimmed
    )


def _log_trimmed(queue: str, number: int) -> None:
    log.warning("archive is full, its oldest tasks were deleted queue=%s tasks=%d", queue, number)
