"""From what was decided about an attempt to what the store is told, with signatures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.lifecycle import Command, Ended, Failure, Who
from nbqueue.broker.large_values import result_fields
from nbqueue.calls import payloads
from nbqueue.calls.detached import beside_of
from nbqueue.calls.exceptions import dump_exception
from nbqueue.calls.keys.signing import Keyring
from nbqueue.durations import format_duration
from nbqueue.errors import TaskCancelled, TaskFailed, TaskTimeout, WorkerLost
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame
from nbqueue.runtime.buffers import LARGE, Body, ChunkedBytes, Piece, parts_of
from nbqueue.wire.messages import with_completed_at
from nbqueue.worker.tasks import decisions
from nbqueue.worker.tasks.acknowledger import Acknowledger
from nbqueue.worker.tasks.attempt import Attempt

log = logging.getLogger("nbqueue.worker")

_OWN_ERRORS = {"cancelled": TaskCancelled, "timeout": TaskTimeout, "lost": WorkerLost}
"""Reasons for which we say what happened, whatever the executor made of it."""

_VALUE_HEAD = payloads.result_head(payloads.VALUE)
_ENDED_WELL = (decisions.Complete, decisions.Revoke)

Make = Callable[[int, Who], Command[bool]]


class OutcomeCommands:
    """Hands ends of attempts to the finisher. What a client will unpickle is signed here."""

    def __init__(self, finisher: Acknowledger, keys: Keyring) -> None:
        self._finisher = finisher
        self._keys = keys

    def done(self, run: Attempt, done: DoneFrame, finished_ms: int) -> None:
        """An executor answered."""
        decision = decisions.after_done(run, done)
        started_ms = finished_ms - done.micros // 1000
        if isinstance(decision, _ENDED_WELL):
            retention = run.message.retention if decision is decisions.COMPLETE else 0
            self._completed(run, done, started_ms, finished_ms, retention)
            return
        body = b"" if done.outcome == pipe.VALUE else bytes(done.body)
        self.failed(run, decision, started_ms, done.peak_memory, body)

    def failed(
        self,
        run: Attempt,
        decision: decisions.Archive | decisions.Retry | decisions.Requeue,
        started_ms: int | None = None,
        peak_memory: int = 0,
        body: Piece = b"",
        error: Exception | None = None,
    ) -> None:
        """The attempt did not end well. ``body`` is the exception as the executor dumped it;
        ``error`` one of our own."""
        failure = run.failure(decision.reason, decision.error_text, started_ms, peak_memory)
        if isinstance(decision, decisions.Requeue):
            _log_failure(run, decision.how, failure)
            self._finisher.otherwise(run, _requeue(run, failure, decision.how))
            return
        signed = error_envelope(self._keys, run, decision, body, error)
        if isinstance(decision, decisions.Archive):
            _log_failure(run, "archived", failure)
            self._finisher.otherwise(run, _archive(run, failure, signed))
        else:
            _log_failure(run, "retry", failure)
            self._finisher.otherwise(run, _retry(run, failure, signed, decision))

    def too_large(self, run: Attempt, size: int) -> None:
        """The store does not take the result."""
        text = (
            f"the result of {run.message.type} is too large for the store, which closed the "
            f"connection over its {size:,} bytes: write it to a file, and return where that is"
        )
        self.failed(run, decisions.Archive("result too large", text))

    def give_back(self, runs: list[Attempt], how: str, reason: str) -> None:
        """Put runs back to the front of their lines, in the order that they have here."""
        for run in reversed(runs):
            self._finisher.otherwise(run, _requeue(run, run.failure(reason, reason), how))

    def _completed(
        self, run: Attempt, done: DoneFrame, started_ms: int, finished_ms: int, retention: int
    ) -> None:
        """It is kept for so many seconds, or deleted."""
        message, keep = run.message, retention > 0
        result, beside = result_envelope(self._keys, run, done)
        now_s = finished_ms // 1000
        is_large = len(run.msg) > LARGE or len(result) > LARGE
        # One for each task: not by the function in Python that a class of named tuples has for it.
        parts = (
            run.task_id,
            run.fence,
            now_s + retention if keep else None,
            with_completed_at(run.msg, now_s) if keep else b"",
            result,
            message.type,
            run.attempt,
            started_ms,
            finished_ms,
            run.waited_ms(started_ms),
            done.peak_memory,
            is_large and not message.unique_key,
            beside,
        )
        self._finisher.completed(run, tuple.__new__(Ended, parts))
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "task %s id=%s type=%s queue=%s attempt=%d duration=%s",
                "revoked" if done.outcome == pipe.REVOKED else "completed",
                run.task_id,
                message.type,
                run.queue,
                run.attempt,
                format_duration(done.micros / 1e6),
            )


class SignedResult(NamedTuple):
    """A result; or the head of one, and the pieces that lie beside it, each with its field."""

    envelope: Body
    beside: Sequence[tuple[str, Body]] = ()

    @property
    def whole(self) -> bytes:
        return b"".join(map(bytes, (self.envelope, *(piece for _, piece in self.beside))))


def result_envelope(keys: Keyring, run: Attempt, done: DoneFrame) -> SignedResult:
    """The result of an attempt that ended well, as it lies in the store."""
    body = done.body
    if done.outcome != pipe.VALUE:
        return SignedResult(b"")
    if run.call is None or run.call.flags & payloads.JSON_RESULT:
        # No pickle, and for programs in Go too.
        return SignedResult(body if isinstance(body, bytes) else ChunkedBytes(*parts_of(body)))
    if len(body) <= LARGE:
        value = bytes(body)
        head = keys.sign_result_apart(_VALUE_HEAD, (value,), run.task_id)
        return tuple.__new__(SignedResult, (head + value, ()))
    parts = parts_of(body)
    if run.message.retention > 0 and len(run.msg) <= LARGE:
        beside, pieces = beside_of(parts, done.digest)
        head = keys.sign_result(payloads.result_head(payloads.VALUE, beside), run.task_id)
        return SignedResult(head, result_fields(beside, pieces))
    # What is not kept is only told.
    head = keys.sign_result_apart(_VALUE_HEAD, parts, run.task_id)
    return SignedResult(ChunkedBytes(head, *parts))


def error_envelope(
    keys: Keyring,
    run: Attempt,
    decision: decisions.Archive | decisions.Retry,
    body: Piece = b"",
    error: Exception | None = None,
) -> bytes:
    """The exception of an attempt that failed, as the store keeps it."""
    own = _OWN_ERRORS.get(decision.reason)
    if own is not None or not body:
        kind = own or TaskFailed
        body = dump_exception(error or kind(decision.error_text, run.task_id))
    return keys.sign_result(payloads.pack_result(payloads.EXCEPTION, body), run.task_id)


def _log_failure(run: Attempt, what: str, failure: Failure) -> None:
    log.warning(
        "task %s id=%s type=%s queue=%s attempt=%d reason=%s error=%r",
        what,
        run.task_id,
        failure.type,
        run.queue,
        run.attempt,
        failure.reason,
        failure.error_text,
    )


def _archive(run: Attempt, failure: Failure, envelope: bytes) -> Make:
    def make(now_ms: int, who: Who) -> Command[bool]:
        msg = lifecycle.failed_message(run.msg, failure.error_text, now_ms, counts=False)
        return lifecycle.archive(
            run.queue,
            failure,
            msg,
            now_ms,
            run.holder or who,
            error=envelope,
            on_trimmed=partial(_log_trimmed, run.queue),
        )

    return make


def _log_trimmed(queue: str, number: int) -> None:
    log.warning("archive is full, its oldest tasks were deleted queue=%s tasks=%d", queue, number)


def _retry(run: Attempt, failure: Failure, envelope: bytes, decision: decisions.Retry) -> Make:
    def make(now_ms: int, who: Who) -> Command[bool]:
        counts = decision.counts
        msg = lifecycle.failed_message(run.msg, failure.error_text, now_ms, counts=counts)
        due_ms = now_ms + int(decision.delay * 1000)
        return lifecycle.retry(
            run.queue,
            failure,
            msg,
            due_ms,
            now_ms,
            run.holder or who,
            counts=counts,
            error=envelope,
        )

    return make


def _requeue(run: Attempt, failure: Failure, how: str) -> Make:
    return lambda now_ms, who: lifecycle.requeue(run.queue, failure, how, now_ms, run.holder or who)
