"""What a task says of itself while it runs, on its way to the supervisor.

At most ten reports a second of a task are sent, and always the latest. Everything is sent by a
thread of its own: the code of a task may be interrupted by an exception anywhere, and half a frame
must not get into the pipe.
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
from nbqueue.moved_modules import public

INTERVAL: Final = 0.1
"""Seconds between two reports of a task."""

LARGEST: Final = 64_000_000
_FIRST_PAUSE = 0.02
_LONGEST_RELIEF = 1.0
_NOTHING: Final[Any] = object()


@public
def report(
    *,
    result: Any = _NOTHING,
    progress: float | tuple[float, float] | None = None,
    desc: str | None = None,
    **fields: Any,
) -> None:
    """Say what this task has found so far, and how far it is; for use inside a task.

    ``progress``: how much is done, from 0 to 1, or (how many, of how many); ``desc`` what that is
    about. Other ``fields``, such as ``loss=0.1``, are small values to be shown beside the bar;
    the latest of each name counts. `TaskFuture.progress` reads all of these.

    ``result``: the result as it is now, in the form that the final one will have.
    `TaskFuture.reported` reads it, and programs in Go do if it is of a message or has the JSON
    codec. It stays if the task fails, or is tried again; the value that the task returns replaces
    it (None does not, of a handler of messages, as with Asynq's ResultWriter).

    It may be called as often as you like: at most ten a second are sent, the latest always. Outside
    of a task it does nothing.

    >>> def train(epochs):
    ...     for epoch in range(epochs):
    ...         ...
    ...         nbqueue.report(result={"epoch": epoch})

    >>> nbqueue.report(progress=(3, 10), desc="epochs", loss=0.12)

    Raises `CannotPickle` or `UsageError` for a value that cannot be sent, or is too large.
    """
    said = plain_fields(fields)
    task = running_task()
    if task is None:
        return
    if result is not _NOTHING:
        task.put(pipe.RESULT_REPORT, bytes(encode_value(task.frame, result)))
    if said or progress is not None or desc is not None:
        task.bars.report(progress, desc, said)
        task.progressed()


class Reporting:
    """The reports of one task: the latest of each kind, and which of them are not sent yet.

    Shared by the code of the task and the thread that sends. Sets and dicts change in one step.
    """

    # Defaults of the class: one is made for each task, and most never need more.
    outbox: Outbox | None = None
    relief: threading.Event | None = None
    """Set when the outbox, which was full, has been sorted."""
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
        """How far it is."""
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
        """`bars` have changed."""
        self.unsent.add(pipe.PROGRESS_REPORT)
        self._wake()

    def write(self, kind: int, data: bytes) -> None:
        """It printed or displayed something."""
        outbox = self.outbox
        if outbox is None:
            outbox = self.outbox = Outbox()
        if outbox.is_full:
            self._reports.relieve(self)
        outbox.write(kind, data)
        if not self.is_queued:
            self._wake()

    def admit_display(self, size: int) -> str:
        """See `Outbox.admit_display`."""
        if self.outbox is None:
            self.outbox = Outbox()
        return self.outbox.admit_display(size)

    def _wake(self) -> None:
        if not self.is_queued and not self.is_over:
            self.is_queued = True
            self._reports.wake(self)

    @property
    def has_more(self) -> bool:
        """Whether something waits to be sent while it runs."""
        waits = bool(self.unsent) or (self.outbox is not None and self.outbox.has_more)
        return waits and not self.is_over

    def take(self, kinds: list[int], most: int | None = None) -> bytes:
        """The frames of these reports, and of what it printed: at most about ``most`` bytes.

        Only one thread at a time may take.
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
    """The reports of all tasks of this executor. ``send`` may be called from any thread."""

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send
        self._sending = threading.Lock()
        self._running: dict[int, Reporting] = {}
        self._woken: queue.SimpleQueue[Reporting] = queue.SimpleQueue()
        self._is_started = False
        self.is_busy: Callable[[], bool] = lambda: False
        """Whether what was sent before is still on its way, so that more had better wait."""

    def begin(self, frame: TaskFrame) -> None:
        """The code of a task begins, in this thread or coroutine."""
        task = self._running[frame.number] = Reporting(self, frame)
        _current.set(task)
        for action in on_begin:
            action()

    def end(self, number: int, *, keep: bool) -> bytes:
        """It has ended: nothing of it is sent from now on. Returns the frames to be sent before
        the end: with what it printed, how far it came, and, with ``keep``, its latest result."""
        task = self._running.pop(number, None)
        if task is None:
            return b""
        task.is_over = True
        # A thread that it started may live on, and must not keep the task's arguments alive.
        del task.frame
        if not task.latest and not task.unsent and task.outbox is None:
            return b""
        with self._sending:
            pass  # what was being sent is out
        kinds = list(task.latest) if keep else []
        if pipe.PROGRESS_REPORT in task.unsent:
            kinds.append(pipe.PROGRESS_REPORT)
        return task.take(kinds)

    def wake(self, task: Reporting) -> None:
        self._woken.put(task)
        if not self._is_started:
            threading.Thread(target=self._run, name="nbqueue-reports", daemon=True).start()
            # Only now: an exception in the task may have kept it from starting. A second one, of
            # two tasks at once, is harmless.
            self._is_started = True

    def relieve(self, task: Reporting) -> None:
        """Wait until there is room for what a task prints, but not for long."""
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
                    # Not at its first letter: what a short task says goes with its end, in one.
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
                    pass  # the supervisor is gone, and so will this process be
                except Exception:
                    # Something odd in one report must not stop all others.
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
    """The result that the running task reported last; empty if it reported none."""
    task = running_task()
    return b"" if task is None else task.latest.get(pipe.RESULT_REPORT, b"")


def running_task() -> Reporting | None:
    """The reports of the task that this code runs in, or that started this thread; None outside of
    a task, after its end, and in a child process that it forked."""
    task = _current.get(None)
    if task is None:
        task = getattr(threading.current_thread(), STARTED_BY, None)
    if task is None or task.is_over or task.generation != _generation:
        return None
    return task


def started_by() -> Reporting | None:
    """The task of this code, even if that has ended."""
    found = _current.get(None)
    return getattr(threading.current_thread(), STARTED_BY, None) if found is None else found


on_begin: Final[list[Callable[[], None]]] = []
"""Called when a task begins."""

STARTED_BY: Final = "_nbqueue_started_by"
"""The attribute of a thread that says which task started it; see `capture`."""

_current: ContextVar[Reporting] = ContextVar("nbqueue.reporting")

_generation = 0
"""How many forks lie between the first process and this one: the pipe is not a child's own."""


def _after_fork() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
