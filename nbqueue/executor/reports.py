"""What a task says of itself while it runs, on its way to the supervisor.

At most ten reports a second of a task are sent, and always the latest. Everything is sent by a
thread of its own: the code of a task may be interrupted by an exception anywhere, and half a frame
must not get into the pipe.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from nbqueue.errors import UsageError
from nbqueue.executor import pipe
from nbqueue.executor.encoding import encode_value
from nbqueue.executor.pipe import TaskFrame

INTERVAL: Final = 0.1
"""Seconds between two reports of a task."""

LARGEST: Final = 64_000_000
_NOTHING: Final[Any] = object()


def report(*, result: Any = _NOTHING) -> None:
    """Say what this task has found so far; for use inside a task.

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

    Raises `CannotPickle` or `UsageError` for a value that cannot be sent, or is too large.
    """
    task = _running_task()
    if task is not None and result is not _NOTHING:
        task.put(pipe.RESULT_REPORT, encode_value(task.frame, result))


class Reporting:
    """The reports of one task: the latest of each kind, and which of them are not sent yet.

    Shared by the code of the task and the thread that sends. Sets and dicts change in one step.
    """

    __slots__ = ("_reports", "frame", "is_over", "is_queued", "latest", "sent_at", "unsent")

    def __init__(self, reports: Reports, frame: TaskFrame) -> None:
        self._reports = reports
        self.frame = frame
        self.latest: dict[int, bytes] = {}
        self.unsent: set[int] = set()
        self.sent_at = 0.0
        self.is_queued = self.is_over = False

    def put(self, kind: int, body: bytes) -> None:
        if len(body) > LARGEST:
            raise UsageError(
                f"a report of {len(body):,} bytes is too large: write it to a file, and report "
                "where that is"
            )
        self.latest[kind] = body
        self.unsent.add(kind)
        if not self.is_queued and not self.is_over:
            self.is_queued = True
            self._reports.wake(self)


class Reports:
    """The reports of all tasks of this executor. ``send`` may be called from any thread."""

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send
        self._sending = threading.Lock()
        self._running: set[int] = set()
        self._tasks: dict[int, Reporting] = {}
        """Those of the running tasks that have reported something; most never do."""
        self._woken: queue.SimpleQueue[Reporting] = queue.SimpleQueue()
        self._is_started = False
        self._pid = os.getpid()

    def begin(self, frame: TaskFrame) -> None:
        """The code of a task begins, in this thread or coroutine."""
        self._running.add(frame.number)
        _current.set((self, frame))

    def of(self, frame: TaskFrame) -> Reporting | None:
        """The reports of a task; None if it has ended."""
        if frame.number not in self._running:
            return None
        task = self._tasks.get(frame.number)
        if task is None:
            task = self._tasks[frame.number] = Reporting(self, frame)
        return task

    def end(self, number: int, *, keep: bool) -> bytes:
        """It has ended: nothing of it is sent from now on. Returns the frames with its latest
        reports if these are to be kept, to be sent before the end."""
        self._running.discard(number)
        task = self._tasks.pop(number, None)
        if task is None:
            return b""
        task.is_over = True
        with self._sending:
            pass  # what was being sent is out
        return b"".join(_frames(task, list(task.latest))) if keep else b""

    def wake(self, task: Reporting) -> None:
        if os.getpid() != self._pid:
            return  # a child that the task forked: the pipe is not its own
        self._woken.put(task)
        if not self._is_started:
            self._is_started = True
            threading.Thread(target=self._run, name="nbqueue-reports", daemon=True).start()

    def _run(self) -> None:
        waiting: list[Reporting] = []
        while True:
            try:
                pause = None
                if waiting:
                    first = min(task.sent_at for task in waiting)
                    pause = max(0.0, first + INTERVAL - time.monotonic())
                waiting.append(self._woken.get(timeout=pause))
            except queue.Empty:
                pass
            now = time.monotonic()
            due = [task for task in waiting if now - task.sent_at >= INTERVAL]
            waiting = [task for task in waiting if task not in due]
            for task in due:
                task.sent_at, task.is_queued = now, False
                self._send_latest(task)

    def _send_latest(self, task: Reporting) -> None:
        with self._sending:
            kinds = [task.unsent.pop() for _ in range(len(task.unsent))]
            if kinds and not task.is_over:
                try:
                    self._send(b"".join(_frames(task, kinds)))
                except OSError:
                    pass  # the supervisor is gone, and so will this process be


def _frames(task: Reporting, kinds: list[int]) -> list[bytes]:
    return [pipe.pack_report(task.frame.number, kind, task.latest[kind]) for kind in kinds]


def reported_result() -> bytes:
    """The result that the running task reported last; empty if it reported none."""
    task = _running_task()
    return b"" if task is None else task.latest.get(pipe.RESULT_REPORT, b"")


def _running_task() -> Reporting | None:
    found = _current.get(None)
    return None if found is None else found[0].of(found[1])


_current: ContextVar[tuple[Reports, TaskFrame]] = ContextVar("nbqueue.reporting")
