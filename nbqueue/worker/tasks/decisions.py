"""Decide about a task after an attempt. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

from nbqueue.calls.payloads import FAIL_IF_LOST
from nbqueue.errors import CANCELLED, NbqueueError, TaskFailed
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame
from nbqueue.worker.tasks.attempt import Attempt

POISON_LIMIT = 3
"""The number of attempts lost with their process before a task is archived."""

UNBEGUN_LIMIT = 10
"""The limit for attempts that are not known to have begun.

Most of these tasks are innocent.
"""


@dataclass(frozen=True, slots=True)
class Complete:
    """Keep the result for the task's retention, or delete the task."""


@dataclass(frozen=True, slots=True)
class Revoke:
    """Delete the task; it counts as processed."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after ``delay`` seconds."""

    delay: float
    counts: bool
    """True if it uses up one of the task's retries."""
    reason: str
    error_text: str


@dataclass(frozen=True, slots=True)
class Archive:
    """Keep the task among those that failed for good."""

    reason: str
    error_text: str


@dataclass(frozen=True, slots=True)
class Requeue:
    """Put the task back to the front of its queue.

    This uses up no retry.
    """

    how: str
    reason: str
    error_text: str


FIRST_CALL_DELAY = 1.0
LONGEST_CALL_DELAY = 600.0

COMPLETE = Complete()

Decision = Complete | Revoke | Retry | Archive | Requeue


class Refusal(NamedTuple):
    """The reason not to begin an attempt, and the decision about its task."""

    decision: Archive | Retry
    error: NbqueueError


def after_done(attempt: Attempt, done: DoneFrame) -> Decision:
    """Decide after the executor's answer."""
    if attempt.stop_reason == pipe.CANCELLED or done.outcome == pipe.CANCELLED:
        return Archive("cancelled", CANCELLED)
    if attempt.stop_reason == pipe.TIMED_OUT or done.outcome == pipe.TIMED_OUT:
        return after_failure(attempt, "timeout", timeout_text(attempt))
    if done.outcome == pipe.VALUE:
        return COMPLETE
    if done.outcome == pipe.REVOKED:
        return Revoke()
    if done.outcome == pipe.FAILED_FOR_GOOD:
        return Archive("error", done.error_text)
    reason = "later" if done.outcome == pipe.LATER else "error"
    delay = done.delay if done.delay >= 0 else None
    if not done.counts:
        return Retry(_delay(attempt, delay), False, reason, done.error_text)
    return after_failure(attempt, reason, done.error_text, delay)


def after_failure(
    attempt: Attempt, reason: str, error_text: str, delay: float | None = None
) -> Retry | Archive:
    """Decide after a failure.

    It uses up a retry, if one is left.
    """
    message = attempt.message
    if message.retried >= message.retry:
        return Archive(reason, error_text)
    return Retry(_delay(attempt, delay), True, reason, error_text)


def _delay(attempt: Attempt, asked: float | None) -> float:
    if asked is not None:
        return asked
    retried = attempt.message.retried
    return call_delay(retried) if attempt.call is not None else message_delay(retried)


def call_delay(retried: int, chance: float | None = None) -> float:
    """Return the retry delay in seconds of a call with ``retried`` retries.

    1 s, doubling up to 10 minutes, less up to half of it by chance, so that tasks that failed
    together do not come back together.
    """
    full = min(FIRST_CALL_DELAY * 2.0 ** min(retried, 30), LONGEST_CALL_DELAY)
    return full * (1.0 - 0.5 * (random.random() if chance is None else chance))


def message_delay(retried: int, chance: float | None = None) -> float:
    """Return the retry delay in seconds of a message.

    Asynq's formula: n⁴ + 15 + r (n + 1), with a random r from 0 to 29.
    """
    r = int((random.random() if chance is None else chance) * 30)
    return float(retried**4 + 15 + r * (retried + 1))


def after_loss(
    attempt: Attempt, reason: str, why: str, innocent: bool = False
) -> Requeue | Archive | Retry:
    """Decide after the loss of the process that ran the attempt.

    ``reason`` is a word or two, ``why`` a sentence. ``innocent``: another task was the cause.
    """
    if attempt.stop_reason == pipe.CANCELLED:
        return Archive("cancelled", CANCELLED)
    if attempt.stop_reason == pipe.TIMED_OUT:
        return after_failure(attempt, "timeout", timeout_text(attempt))
    if attempt.call is not None and attempt.call.flags & FAIL_IF_LOST:
        return Archive("lost", f"{why}; it must not run twice (on_lost='fail')")
    if innocent:
        return Requeue("interrupted", reason, why)
    if not attempt.begun:
        if attempt.unbegun + 1 < UNBEGUN_LIMIT:
            return Requeue("unbegun", reason, why)
        return Archive("lost", f"{why}; {attempt.unbegun + 1} workers died that had just taken it")
    if attempt.losses + 1 >= POISON_LIMIT:
        return Archive("lost", f"{why}; {attempt.losses + 1} processes died of this task")
    return Requeue("lost", reason, why)


def without_code(attempt: Attempt) -> Refusal:
    """Decide about a task whose code the store lacks."""
    text = (
        f"the code of {attempt.message.type} is not in the store any more (or was changed there): "
        "submit the task again"
    )
    return Refusal(Archive("no code", text), TaskFailed(text, attempt.task_id))


def too_large(attempt: Attempt, size: int) -> Archive:
    """Decide about a task whose result is too large for the store."""
    text = (
        f"the result of {attempt.message.type} is too large for the store, which closed the "
        f"connection over its {size:,} bytes: write it to a file, and return where that is"
    )
    return Archive("result too large", text)


def timeout_text(attempt: Attempt) -> str:
    """Return the text of the error of an attempt that timed out."""
    if attempt.deadline and (not attempt.timeout or attempt.ends_at >= attempt.deadline):
        return "timed out: its deadline has passed"
    return f"timed out after {attempt.timeout:g}s"
