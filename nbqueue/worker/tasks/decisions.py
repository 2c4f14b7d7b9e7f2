"""What happens to a task when an attempt has ended. Pure: it decides, and does nothing."""

from __future__ import annotations

from dataclasses import dataclass

from nbqueue.calls.payloads import FAIL_IF_LOST
from nbqueue.errors import CANCELLED
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.retry_delay import call_delay, message_delay

POISON_LIMIT = 3
"""So many of a task's attempts may end with the death of their process; then it is archived."""

UNBEGUN_LIMIT = 10
"""The same for attempts that are not known to have begun: of these most are innocent."""


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
    reason: str
    error_text: str


@dataclass(frozen=True, slots=True)
class Archive:
    """It failed for good."""

    reason: str
    error_text: str


@dataclass(frozen=True, slots=True)
class Requeue:
    """Back to the front of the line; no retry is used up."""

    how: str
    reason: str
    error_text: str


COMPLETE = Complete()

Decision = Complete | Revoke | Retry | Archive | Requeue


def after_done(run: Attempt, done: DoneFrame) -> Decision:
    """The executor answered."""
    if run.stop_reason == pipe.CANCELLED or done.outcome == pipe.CANCELLED:
        return Archive("cancelled", CANCELLED)
    if run.stop_reason == pipe.TIMED_OUT or done.outcome == pipe.TIMED_OUT:
        return after_failure(run, "timeout", timeout_text(run))
    if done.outcome == pipe.VALUE:
        return COMPLETE
    if done.outcome == pipe.REVOKED:
        return Revoke()
    if done.outcome == pipe.FAILED_FOR_GOOD:
        return Archive("error", done.error_text)
    reason = "later" if done.outcome == pipe.LATER else "error"
    delay = done.delay if done.delay >= 0 else None
    if not done.counts:
        return Retry(_delay(run, delay), False, reason, done.error_text)
    return after_failure(run, reason, done.error_text, delay)


def after_failure(
    run: Attempt, reason: str, error_text: str, delay: float | None = None
) -> Retry | Archive:
    """It failed in a way that its retries are for."""
    message = run.message
    if message.retried >= message.retry:
        return Archive(reason, error_text)
    return Retry(_delay(run, delay), True, reason, error_text)


def _delay(run: Attempt, asked: float | None) -> float:
    if asked is not None:
        return asked
    retried = run.message.retried
    return call_delay(retried) if run.call is not None else message_delay(retried)


def after_loss(
    run: Attempt, reason: str, why: str, innocent: bool = False
) -> Requeue | Archive | Retry:
    """The process that ran it is gone; ``reason`` says how in a word, ``why`` in a sentence.
    ``innocent``: for the sake of another task."""
    if run.stop_reason == pipe.CANCELLED:
        return Archive("cancelled", CANCELLED)
    if run.stop_reason == pipe.TIMED_OUT:
        return after_failure(run, "timeout", timeout_text(run))
    if run.call is not None and run.call.flags & FAIL_IF_LOST:
        return Archive("lost", f"{why}; it must not run twice (on_lost='fail')")
    if innocent:
        return Requeue("interrupted", reason, why)
    if not run.begun:
        if run.unbegun + 1 < UNBEGUN_LIMIT:
            return Requeue("unbegun", reason, why)
        return Archive("lost", f"{why}; {run.unbegun + 1} workers died that had just taken it")
    if run.lost + 1 >= POISON_LIMIT:
        return Archive("lost", f"{why}; {run.lost + 1} processes died of this task")
    return Requeue("lost", reason, why)


def timeout_text(run: Attempt) -> str:
    if run.deadline and (not run.timeout or run.ends_at >= run.deadline):
        return "timed out: its deadline has passed"
    return f"timed out after {run.timeout:g}s"
