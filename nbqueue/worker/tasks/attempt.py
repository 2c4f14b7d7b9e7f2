"""An attempt at a task, held by a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from nbqueue.broker.commands.failure import Failure, Who
from nbqueue.broker.commands.lifecycle import Fetched
from nbqueue.calls.payloads import JSON_RESULT, Call
from nbqueue.executor.pipe import NO_CODE, DoneFrame, TaskFrame
from nbqueue.wire.attempts import attempt_number
from nbqueue.wire.messages import FAR_TIMEOUT, TaskMessage
from nbqueue.wire.timeouts import exact, read_timeouts, seen_headers

if TYPE_CHECKING:
    from nbqueue.worker.executors.executor_process import ExecutorExit, ExecutorProcess
    from nbqueue.worker.tasks.decisions import Refusal

FAR_DEADLINE = 32_503_680_000
"""The year 3000, in Unix seconds: no deadline.

It is near the last year that a datetime can hold.
"""

FOREVER = 1 << 62
"""`Attempt.leased_ms` of an attempt that has no lease."""

DEFAULT_TIMEOUT = 1800
"""Seconds; Asynq's, for a message with neither time-out nor deadline."""


class AttemptOwner(Protocol):
    """Decides the consequences of an attempt.

    It gets each report, and exactly one outcome.

    Attempts at tasks belong to `TaskOutcomes`, those of aggregations to `Aggregator`, and those of
    periodic providers to `PeriodicSync`.
    """

    def reported(self, attempt: Attempt, kind: int, body: bytes) -> None:
        """Handle a report of the running attempt, such as `pipe.OUTPUT_REPORT`."""

    def done(self, attempt: Attempt, done: DoneFrame) -> None:
        """Handle the answer of its executor."""

    def lost(self, attempt: Attempt, exit: ExecutorExit, innocent: bool) -> None:
        """Handle the loss of its executor.

        ``innocent``: another task was the cause.
        """

    def refused(self, attempt: Attempt, refusal: Refusal) -> None:
        """Deal with an attempt that must not or cannot begin."""

    def give_back(self, attempt: Attempt, how: str, reason: str) -> None:
        """Give up the attempt without an outcome; it is made again later."""


class Attempt:
    """An attempt at a task, from fetch to acknowledgement.

    Times are on the store's clock.

    ``number`` identifies it to the executors of this worker, independent of its task's id and
    queue.
    ``task_id`` is the id under which the task is stored; the id in its message may be forged.
    """

    call: Call | None = None
    fingerprint: bytes = NO_CODE
    """The fingerprint of the code of the call's function or stored handler."""
    is_coroutine: bool = False
    is_fresh: bool = False
    """True if the attempt runs in a process of its own."""
    executor: ExecutorProcess | None = None
    sent_at: float = 0.0
    ends_at: float = 0.0
    """The end of a started attempt's time (Unix seconds). 0: no limit."""
    stop_reason: int = 0
    """The reason of the interruption: `pipe.CANCELLED`, `pipe.TIMED_OUT`, or 0."""
    leased_ms: int = FOREVER
    """The time of the last command that wrote or extended its lease."""
    is_lost: bool = False
    """True if the store answered that the lease is lost."""
    has_reported: bool = False
    """True if its executor reported output, progress or a partial result."""
    holder: Who | None = None
    """The worker that made it, if not this one: a recovered task."""
    begun: bool = True
    """False for a recovered task that is not known to have begun."""
    unbegun: int = 0
    """The number of earlier attempts lost before they were known to have begun."""
    is_noted: bool = False
    """True if the store knows that the attempt has begun."""
    is_checked: bool = False
    """True if detached arguments were compared with their digest."""

    def __init__(
        self,
        number: int,
        queue: str,
        task: Fetched,
        message: TaskMessage,
        fence: str,
        fetched_ms: int,
        owner: AttemptOwner,
        apart: memoryview | None = None,
    ) -> None:
        # Few of the other attributes are ever set, so they have their defaults in the class.
        self.number = number
        self.queue = queue
        self.task_id, self.msg, self.since_ns, self.fetches, self.losses, _ = task
        self.message = message
        self.payload = message.payload if apart is None else apart
        """The call or the message's payload. A large one is separate from the message."""
        self.fence = fence
        self.fetched_ms = fetched_ms
        self.owner = owner
        self.ordinal = attempt_number(message, self.fetches, self.losses)
        """The number of the attempt at its task, from 1.

        It includes attempts of programs in Go.
        """
        self.is_unlimited = message.timeout >= FAR_TIMEOUT and not message.deadline
        """True if its message sets no time-out and no deadline, as most do."""

    @property
    def timeout(self) -> float:
        """The seconds that this attempt may take; 0: any number."""
        timeout, deadline = self.message.timeout, self.message.deadline
        if timeout <= 0:
            return 0 if deadline > 0 else DEFAULT_TIMEOUT
        if timeout >= FAR_TIMEOUT:
            return 0
        timeouts = self._exact_timeouts()
        return (timeouts and exact(timeouts[0], timeout)) or timeout

    @property
    def deadline(self) -> float:
        """The deadline of the task (Unix seconds), for all attempts. 0: none."""
        deadline = self.message.deadline
        if not 0 < deadline < FAR_DEADLINE:
            return 0
        timeouts = self._exact_timeouts()
        return (timeouts and exact(timeouts[1], deadline)) or deadline

    def _exact_timeouts(self) -> tuple[int, int] | None:
        """Return the exact time-out and deadline in milliseconds, if there are any."""
        if self.call is not None:
            return self.call.timeouts
        return read_timeouts(self.message.headers) if self.message.headers else None

    @property
    def is_limited(self) -> bool:
        """True if the attempt has a time-out or a deadline."""
        return not self.is_unlimited and bool(self.timeout or self.deadline)

    def end_at(self, started: float) -> float:
        """Return the latest end (Unix seconds) for a start at ``started``. 0: no limit."""
        if self.is_unlimited:
            return 0.0
        timeout, deadline = self.timeout, self.deadline
        if not timeout:
            return float(deadline)
        end = started + timeout
        return min(end, deadline) if deadline else end

    @property
    def has_json_result(self) -> bool:
        """True for a call whose result is JSON, which is not signed."""
        return self.call is not None and bool(self.call.flags & JSON_RESULT)

    def frame(self, ends_at: float, begin_by: float = 0.0) -> TaskFrame:
        """Return the frame that has its executor run it.

        It must not begin after ``begin_by`` (seconds of `steady_time`), unless that is 0.
        """
        message, call = self.message, self.call
        # Made once for each task, so without the slower constructor of the named tuple.
        parts = (
            self.number,
            self.fingerprint,
            call is None,
            self.ordinal,
            message.retried,
            message.retry,
            ends_at,
            self.task_id,
            self.queue,
            message.type,
            seen_headers(message.headers) if message.headers else b"",
            self.payload if call is None else call.arguments,
            call is not None and bool(call.flags & JSON_RESULT),
            b"" if call is None or call.seed is None else call.seed.pack(),
            begin_by,
        )
        return tuple.__new__(TaskFrame, parts)

    def waited_ms(self, started_ms: int) -> int | None:
        """Return the milliseconds that the task was pending, if known."""
        return None if self.since_ns is None else max(0, started_ms - self.since_ns // 1_000_000)

    def failure(
        self, reason: str, error_text: str, started_ms: int | None = None, peak_memory: int = 0
    ) -> Failure:
        """Return the broker's record of an attempt that did not succeed."""
        started = self.fetched_ms if started_ms is None else started_ms
        return Failure(
            self.task_id,
            self.fence,
            self.message.type,
            self.ordinal,
            started,
            self.waited_ms(started),
            reason,
            peak_memory,
            error_text,
        )


def give_back(attempts: list[Attempt], how: str, reason: str) -> None:
    """Give up attempts; their tasks return to their queues in this order.

    They go to the front of their queues.
    """
    for attempt in reversed(attempts):
        attempt.owner.give_back(attempt, how, reason)
