"""A task in the hands of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbqueue.broker.commands.lifecycle import Failure, Who
from nbqueue.calls.payloads import JSON_RESULT, Call
from nbqueue.executor.pipe import NO_CODE, TaskFrame
from nbqueue.wire.attempts import attempt_number
from nbqueue.wire.messages import FAR_TIMEOUT, TaskMessage
from nbqueue.wire.timeouts import exact, read_limits, seen_headers

if TYPE_CHECKING:
    from nbqueue.worker.executors.executor_process import ExecutorProcess

FAR_DEADLINE = 32_503_680_000
"""The year 3000, in Unix seconds: no deadline, and near the last that a datetime can hold."""

FOREVER = 1 << 62
"""`Attempt.leased_ms` of what has no lease."""

DEFAULT_TIMEOUT = 1800
"""Seconds; Asynq's, for a message with neither time-out nor deadline."""


class Attempt:
    """One attempt at a task, from fetch to acknowledgement. Times are on the store's clock.

    ``number`` names it to the executors of this worker, whatever its task's id and queue are.
    ``task_id`` is under which it lies in the store; what its message says may be a forgery.
    """

    call: Call | None = None
    fingerprint: bytes = NO_CODE
    """Of the code that runs: of the call's function, or of a handler that lies in the store."""
    is_coroutine: bool = False
    is_fresh: bool = False
    """Whether it runs in a process of its own."""
    executor: ExecutorProcess | None = None
    sent_at: float = 0.0
    ends_at: float = 0.0
    """When this attempt must end (Unix seconds), once it was sent to an executor; 0: never."""
    stop_reason: int = 0
    leased_ms: int = FOREVER
    """When its lease was written or extended last; the command was sent then."""
    is_lost: bool = False
    """Whether the store said that it is not ours any more."""
    has_reported: bool = False
    """Whether its executor said something of it before its end."""
    holder: Who | None = None
    """Who ran it, if that is not this worker: a task that was recovered."""
    begun: bool = True
    """False for a task that was recovered and is not known to have begun."""
    unbegun: int = 0
    is_noted: bool = False
    """Whether the store knows that it has begun."""
    apart: memoryview | None = None
    """The payload, if it is large: then the message comes without it, or with its head only."""
    is_checked: bool = False
    """Whether what follows the head of the payload is known to be what that says."""

    def __init__(
        self,
        number: int,
        task_id: str,
        queue: str,
        msg: bytes,
        message: TaskMessage,
        fence: str,
        attempt: int,
        lost: int,
        since_ns: int | None,
        fetched_ms: int,
    ) -> None:
        # Few are looked at beyond these, so the others begin as what the class says.
        self.number = number
        self.task_id = task_id
        self.queue = queue
        self.msg = msg
        self.message = message
        self.fence = fence
        self.fetched = attempt
        """Which fetch by a worker of nbqueue this is, from 1: what the store counts."""
        self.attempt = attempt_number(message, attempt, lost)
        """The number of the attempt, those of programs in Go included."""
        self.lost = lost
        self.since_ns = since_ns
        self.fetched_ms = fetched_ms
        self.is_unlimited = message.timeout >= FAR_TIMEOUT and not message.deadline
        """Whether its message gives it all the time that it needs, as most do."""

    @property
    def payload(self) -> bytes | memoryview:
        return self.message.payload if self.apart is None else self.apart

    @property
    def timeout(self) -> float:
        """How many seconds this attempt may take; 0: any number."""
        timeout, deadline = self.message.timeout, self.message.deadline
        if timeout <= 0:
            return 0 if deadline > 0 else DEFAULT_TIMEOUT
        if timeout >= FAR_TIMEOUT:
            return 0
        limits = self._limits()
        return (limits and exact(limits[0], timeout)) or timeout

    @property
    def deadline(self) -> float:
        """When the task must be done (Unix seconds), whatever the attempt; 0: never."""
        deadline = self.message.deadline
        if not 0 < deadline < FAR_DEADLINE:
            return 0
        limits = self._limits()
        return (limits and exact(limits[1], deadline)) or deadline

    def _limits(self) -> tuple[int, int] | None:
        """The exact time-out and deadline in milliseconds, where it has any."""
        if self.call is not None:
            return self.call.limits
        return read_limits(self.message.headers) if self.message.headers else None

    @property
    def is_limited(self) -> bool:
        """Whether the attempt must end at some time."""
        return not self.is_unlimited and bool(self.timeout or self.deadline)

    def end_at(self, started: float) -> float:
        """When the attempt must end (Unix seconds) if it starts then; 0: never."""
        if self.is_unlimited:
            return 0.0
        timeout, deadline = self.timeout, self.deadline
        if not timeout:
            return float(deadline)
        end = started + timeout
        return min(end, deadline) if deadline else end

    @property
    def has_json_result(self) -> bool:
        """Whether it is a call whose result is to be JSON, which nobody signs."""
        return self.call is not None and bool(self.call.flags & JSON_RESULT)

    def frame(self, ends_at: float, begin_by: float = 0.0) -> TaskFrame:
        """What its executor needs to run it; it must not begin after ``begin_by``, if that is not
        0 (seconds of `steady_time`)."""
        message, call = self.message, self.call
        # One for each task: not by the function in Python that a class of named tuples has for it.
        parts = (
            self.number,
            self.fingerprint,
            call is None,
            self.attempt,
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
        """How long the task was pending before it started, if that is known."""
        return None if self.since_ns is None else max(0, started_ms - self.since_ns // 1_000_000)

    def failure(
        self, reason: str, error_text: str, started_ms: int | None = None, peak_memory: int = 0
    ) -> Failure:
        """What the broker needs to end this attempt as anything but a success."""
        started = self.fetched_ms if started_ms is None else started_ms
        return Failure(
            self.task_id,
            self.fence,
            self.message.type,
            self.attempt,
            started,
            self.waited_ms(started),
            reason,
            peak_memory,
            error_text,
        )
