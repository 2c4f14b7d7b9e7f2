"""The owner of attempts at tasks: decides, and sends the outcomes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from nbqueue.broker.commands.failure import Failure
from nbqueue.calls.keys.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.durations import format_duration
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame
from nbqueue.runtime.buffers import Piece
from nbqueue.worker.executors.executor_process import ExecutorExit
from nbqueue.worker.tasks import decisions
from nbqueue.worker.tasks.acknowledger import Acknowledger
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.decisions import Archive, Refusal, Requeue, Retry
from nbqueue.worker.tasks.outcome_commands import completion, error_envelope, failure_command

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
