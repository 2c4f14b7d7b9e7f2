"""Send a running task's reports and output to the supervisor.

At most ten reports per second and task are sent, always the latest ones. A separate thread sends
them: an exception may interrupt the task's code anywhere, and must not leave half a frame in the
pipe.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from nbqueue.errors import UsageError
from nbqueue.executor import pipe
from nbqueue.executor.output.outbox import MOST_AT_ONCE, Outbox
from nbqueue.executor.output.progress_values import Bars, plain_fields
from nbqueue.executor.pipe import TaskFrame
from nbqueue.executor.value_encoding import encode_value
from nbqueue.moved_modules import pickled_as

INTERVAL: Final = 0.1
"""Seconds between two reports of a task."""

LARGEST: Final = 64_000_000
_FIRST_PAUSE = 0.02
_LONGEST_RELIEF = 1.0
_NOTHING: Final[Any] = object()


@pickled_as("nbqueue.executor.reports")
def report(
    *,
    result: Any = _NOTHING,
    progress: float | tuple[float, float] | None = None,
    desc: str | None = None,
    **fields: Any,
) -> None:
    """Report a task's progress, values or partial result from inside the task.

    ``progress``: how much is done, from 0 to 1, or as (done, total); ``desc`` is its label. Other
    ``fields``, such as ``loss=0.1``, are small values shown next to the bar; the latest value of
    each name counts. `TaskFuture.progress` reads all of these.

    ``result``: the result so far, in the form of the final one. `TaskFuture.reported` reads it, and
    so can Go programs for messages and for calls with the JSON codec. It stays if the task fails or
    is retried; the return value of the task replaces it (except None from a message handler, as
    with Asynq's ResultWriter).

    Call it as often as you like: at most ten reports per second are sent, always the latest.
    Outside a task it does nothing.

    >>> def train(epochs):
    ...     for epoch in range(epochs):
    ...         ...
    ...         nbqueue.report(result={"epoch": epoch})

    >>> nbqueue.report(progress=(3, 10), desc="epochs", loss=0.12)

    Raises `CannotPickle` or `UsageError` for a value that cannot be sent or is too large.
    """
    values = plain_fields(fields)
    task = running_task()
    if task is None:
        return
    if result is not _NOTHING:
        task.put(pipe.RESULT_REPORT, bytes(encode_value(task.frame, result)))
    if values or progress is not None or desc is not None:
        task.bars.report(progress, desc, values)
        task.progressed()


class Reporting:
    """The reports of a task: the latest of each kind, and the unsent ones.

    Shared by the task's code and the sending thread. Single operations on sets and dicts are
    atomic.
    """

    # Class-level defaults: one object is made per task, and most never change these.
    outbox: Outbox | None = None
    relief: threading.Event | None = None
    """Set when a full outbox has been sorted."""
    _bars: Bars | None = None
    sent_at = 0.0
    is_queued = is_over = False

    def __init__(self, reports: Reports, frame: TaskFrame) -> None:
        self._reports = reports
        self.frame = frame
        self.number = frame.number
        self.generation = _generation
        self.latest: dict[int, bytes] = {}
        self.unsent: set[int] = set()

    @property
    def bars(self) -> Bars:
        """The progress of the task."""
        if self._bars is None:
            self._bars = Bars()
        return self._bars

    def put(self, kind: int, body: bytes) -> None:
        if len(body) > LARGEST:
            raise UsageError(
                f"a report of {len(body):,} bytes is too large: write it to a file, and report "
                "where that is"
            )
        self.latest[kind] = body
        self.unsent.add(kind)
        self._wake()

    def progressed(self) -> None:
        """Record a change of `bars`."""
        self.unsent.add(pipe.PROGRESS_REPORT)
        self._wake()

    def write(self, kind: int, data: bytes) -> None:
        """Add printed or displayed output."""
        outbox = self.outbox
        if outbox is None:
            outbox = self.outbox = Outbox()
        if outbox.is_full:
            self._reports.relieve(self)
        outbox.write(kind, data)
        if not self.is_queued:
            self._wake()

    def admit_display(self, size: int) -> str:
        """Count a display, see `Outbox.admit_display`."""
        if self.outbox is None:
            self.outbox = Outbox()
        return self.outbox.admit_display(size)

    def _wake(self) -> None:
        if not self.is_queued and not self.is_over:
            self.is_queued = True
            self._reports.wake(self)

    @property
    def has_more(self) -> bool:
        """True if reports or output of the running task wait to be sent."""
        waits = bool(self.unsent) or (self.outbox is not None and self.outbox.has_more)
        return waits and not self.is_over

    def take(self, kinds: list[int], most: int | None = None) -> bytes:
        """Remove and return frames of reports and output, about ``most`` bytes.

        Only one thread at a time may call it.
        """
        number, frames = self.number, []
        for kind in kinds:
            if kind != pipe.PROGRESS_REPORT:
                frames.append(pipe.pack_report(number, kind, self.latest[kind]))
            elif self._bars is not None:
                frames.append(pipe.pack_report(number, kind, self._bars.encode()))
        if self.outbox is not None:
            frames += [pipe.pack_output(number, each) for each in self.outbox.take(most)]
        return b"".join(frames)


class Reports:
    """The reports of all tasks of this executor.

    Any thread may call ``send``.
    """

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send
        self._sending = threading.Lock()
        self._running: dict[int, Reporting] = {}
        self._woken: queue.SimpleQueue[Reporting] = queue.SimpleQueue()
        self._is_started = False
        self.is_busy: Callable[[], bool] = lambda: False
        """True while the pipe is busy with earlier frames."""

    def begin(self, frame: TaskFrame) -> None:
        """Record that a task's code begins in this thread or coroutine."""
        task = self._running[frame.number] = Reporting(self, frame)
        _current.set(task)
        for action in on_begin:
            action()

    def end(self, number: int, *, keep: bool) -> bytes:
        """Record that a task has ended. None of its reports are sent afterwards.

        Returns the frames to send before the task's end: remaining output, progress and, with
        ``keep``, the latest partial result.
        """
        task = self._running.pop(number, None)
        if task is None:
            return b""
        task.is_over = True
        # A thread that the task started may live on, and must not keep its arguments alive.
        del task.frame
        if not task.latest and not task.unsent and task.outbox is None:
            return b""
        with self._sending:
            pass  # wait until a frame that is being sent is complete
        kinds = list(task.latest) if keep else []
        if pipe.PROGRESS_REPORT in task.unsent:
            kinds.append(pipe.PROGRESS_REPORT)
        return task.take(kinds)

    def wake(self, task: Reporting) -> None:
        self._woken.put(task)
        if not self._is_started:
            threading.Thread(target=self._run, name="nbqueue-reports", daemon=True).start()
            # Set last: an exception in the task may have prevented the start. A second thread,
            # started by two tasks at once, is harmless.
            self._is_started = True

    def relieve(self, task: Reporting) -> None:
        """Wait briefly until there is room for more output."""
        relief = task.relief = threading.Event()
        self.wake(task)
        relief.wait(_LONGEST_RELIEF)

    def _relieve(self, task: Reporting) -> None:
        relief, task.relief = task.relief, None
        with self._sending:
            if task.outbox is not None and not task.is_over:
                task.outbox.sort()
        if relief is not None:
            relief.set()

    def _run(self) -> None:
        waiting: list[Reporting] = []
        while True:
            try:
                pause = None
                if waiting:
                    first = min(task.sent_at for task in waiting)
                    pause = max(0.0, first + INTERVAL - time.monotonic())
                task = self._woken.get(timeout=pause)
                if task.relief is not None:
                    self._relieve(task)
                if not task.sent_at:
                    # Not immediately: the output of a short task is sent together with its end.
                    task.sent_at = time.monotonic() - INTERVAL + _FIRST_PAUSE
                if task not in waiting:
                    waiting.append(task)
            except queue.Empty:
                pass
            now = time.monotonic()
            due = [task for task in waiting if now - task.sent_at >= INTERVAL]
            waiting = [task for task in waiting if task not in due]
            for task in due:
                task.sent_at, task.is_queued = now, False
                try:
                    self._send_latest(task)
                except OSError:
                    pass  # the supervisor has died, and this process is about to end
                except Exception:
                    # A bad report must not stop all others.
                    traceback.print_exc(file=sys.__stderr__)
                if task.has_more and not task.is_queued:
                    task.is_queued = True
                    waiting.append(task)

    def _send_latest(self, task: Reporting) -> None:
        with self._sending:
            if task.is_over or self.is_busy():
                return
            kinds = [task.unsent.pop() for _ in range(len(task.unsent))]
            data = task.take(kinds, MOST_AT_ONCE)
            if data:
                self._send(data)


def reported_result() -> bytes:
    """Return the running task's last reported result; empty if it reported none."""
    task = running_task()
    return b"" if task is None else task.latest.get(pipe.RESULT_REPORT, b"")


def running_task() -> Reporting | None:
    """Return the reports of the task that this code belongs to.

    Also for a thread that the task started. None outside a task, after its end, and in a child
    process that it forked.
    """
    task = _current.get(None)
    if task is None:
        task = getattr(threading.current_thread(), STARTED_BY, None)
    if task is None or task.is_over or task.generation != _generation:
        return None
    return task


def started_by() -> Reporting | None:
    """Return the reports of this code's task, even if that has ended."""
    found = _current.get(None)
    return getattr(threading.current_thread(), STARTED_BY, None) if found is None else found


on_begin: Final[list[Callable[[], None]]] = []
"""Functions to call when a task begins."""

STARTED_BY: Final = "_nbqueue_started_by"
"""The thread attribute with the task that started the thread; see `capture`."""

_current: ContextVar[Reporting] = ContextVar("nbqueue.reporting")

_generation = 0
"""The number of forks since the first process.

Children do not use the pipe.
"""


def _after_fork() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
