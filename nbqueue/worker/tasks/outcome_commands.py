"""Commands for the outcomes of attempts, with signed results and errors. Pure."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands.failure import Failure, Who
from nbqueue.broker.commands.lifecycle import Ended
from nbqueue.broker.large_values import result_fields
from nbqueue.calls import payloads
from nbqueue.calls.detached import describe_body
from nbqueue.calls.exceptions import dump_exception
from nbqueue.calls.keys.signing import Keyring
from nbqueue.errors import TaskCancelled, TaskFailed, TaskTimeout, WorkerLost
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame
from nbqueue.runtime.buffers import LARGE, Body, ChunkedBytes, Piece, parts_of
from nbqueue.transport.script_call import Command
from nbqueue.wire.messages import with_completed_at
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.decisions import Archive, Requeue, Retry

log = logging.getLogger("nbqueue.worker")

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
    )
    return tuple.__new__(Ended, parts)


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
