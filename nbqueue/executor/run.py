"""Running one call: from its frame to how it ended."""

from __future__ import annotations

import gc
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from nbqueue.calls import functions
from nbqueue.calls.exceptions import dump_exception, error_text
from nbqueue.clock import EPOCH
from nbqueue.durations import parse_duration
from nbqueue.errors import (
    CannotPickle,
    NbqueueError,
    RetryLater,
    RevokeTask,
    SkipRetry,
    TaskCancelled,
    TaskTimeout,
)
from nbqueue.executor import pipe
from nbqueue.executor.context import Task, reset_current, set_current
from nbqueue.executor.pipe import DoneFrame, TaskFrame

_MOST_FUNCTIONS = 256


class Interrupted:
    """Which task is running, and why it must end: shared by the code that runs and that stops.

    Only the thread that runs tasks sets ``number``; only the control thread sets the other two.
    """

    __slots__ = ("asked", "number", "reason")

    def __init__(self) -> None:
        self.number = -1
        self.asked = -1
        self.reason = 0

    def exception(self) -> BaseException | None:
        """What to raise in the running task, if it is the one that must end."""
        if self.number == -1 or self.number != self.asked:
            return None
        self.asked = -1
        return stop_exception(self.reason)


def stop_exception(reason: int) -> BaseException:
    """What is raised in a task that must end; its class alone will do, too."""
    return TaskCancelled() if reason == pipe.CANCELLED else TaskTimeout()


class Functions:
    """The functions that this executor has: code as it came, unpickled when first called."""

    def __init__(self) -> None:
        self._blobs: dict[bytes, bytes] = {}
        self._loaded: OrderedDict[bytes, Callable[..., Any]] = OrderedDict()

    def add(self, body: bytes) -> None:
        """Take the body of a `CODE` frame."""
        self._blobs[body[:16]] = body[16:]

    def get(self, fingerprint: bytes) -> Callable[..., Any]:
        """Return the function; unpickles its code. Raises whatever that raises."""
        found = self._loaded.get(fingerprint)
        if found is None:
            found = functions.load_function(self._blobs[fingerprint])
            self._loaded[fingerprint] = found
            if len(self._loaded) > _MOST_FUNCTIONS:
                self._loaded.popitem(last=False)
        return found


def task_context(frame: TaskFrame) -> Task:
    deadline = EPOCH + timedelta(seconds=frame.deadline) if frame.deadline else None
    return Task(frame.task_id, frame.type, frame.queue, frame.attempt, frame.max_retry, deadline)


class CannotLoad(NbqueueError):
    """The code or the arguments of a task cannot be loaded here; trying again is of no use."""


def prepare(
    known: Functions, frame: TaskFrame
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Unpickle a task's function and arguments. Raises `CannotLoad` with the reason as cause."""
    try:
        function = known.get(frame.fingerprint)
        args, kwargs = functions.load_arguments(frame.arguments)
    except Exception as error:
        hint = ""
        if isinstance(error, ModuleNotFoundError) and error.name:
            hint = f"; install {error.name.partition('.')[0]!r} where the worker runs"
        raise CannotLoad(
            f"{frame.type} cannot be loaded by this worker (Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}): {error_text(error)}{hint}"
        ) from error
    return function, args, kwargs


def run_sync(known: Functions, frame: TaskFrame, interrupted: Interrupted) -> DoneFrame:
    """Run a task in this thread. Never raises: whatever happens is in the frame."""
    started = time.perf_counter_ns()
    token = set_current(task_context(frame))
    try:
        try:
            function, args, kwargs = prepare(known, frame)
            interrupted.number = frame.number
            early = interrupted.exception()
            if early is not None:
                raise early
            value = function(*args, **kwargs)
            interrupted.number = -1
            done = succeeded(frame, value, started)
        except BaseException as error:
            interrupted.number = -1
            done = failed(frame, error, started)
    except BaseException as error:
        # The interrupt came between the two lines above.
        interrupted.number = -1
        done = failed(frame, error, started)
    finally:
        reset_current(token)
    return done


def succeeded(frame: TaskFrame, value: object, started: int) -> DoneFrame:
    micros = (time.perf_counter_ns() - started) // 1000
    try:
        body = functions.dump_value(value, callee=frame.type)
    except CannotPickle as error:
        return failed(frame, error, started)
    return DoneFrame(frame.number, pipe.VALUE, micros, peak_memory(micros), 0.0, True, "", body)


def failed(frame: TaskFrame, error: BaseException, started: int) -> DoneFrame:
    micros = (time.perf_counter_ns() - started) // 1000
    outcome, delay, counts = pipe.FAILED, 0.0, True
    if isinstance(error, RetryLater):
        try:
            outcome, delay, counts = pipe.LATER, parse_duration(error.delay), error.counts  # type: ignore[arg-type]
        except NbqueueError as wrong:
            error = wrong
    elif isinstance(error, RevokeTask):
        outcome = pipe.REVOKED
    elif isinstance(error, TaskCancelled):
        outcome = pipe.CANCELLED
    elif isinstance(error, SkipRetry | CannotLoad | CannotPickle):
        outcome = pipe.FAILED_FOR_GOOD
    text = error_text(error)
    if isinstance(error, CannotLoad) and error.__cause__ is not None:
        text = str(error)
    body = dump_exception(error)
    # The frames of the traceback hold the task's variables, perhaps gigabytes.
    error.__traceback__ = None
    return DoneFrame(frame.number, outcome, micros, peak_memory(micros), delay, counts, text, body)


_LOOK_AFTER_MICROS = 2_000
_last_peak = 0


def peak_memory(micros: int) -> int:
    """The most memory that this process ever had, in bytes; 0 where that cannot be known.

    Looked up only after a task that ran for ``micros`` or longer than that takes.
    """
    global _last_peak
    if micros >= _LOOK_AFTER_MICROS or not _last_peak:
        _last_peak = _read_peak_memory()
    return _last_peak


def _read_peak_memory() -> int:
    try:
        # getrusage would say what the supervisor had when it forked.
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def tune_garbage_collection() -> None:
    """What was imported until now lives for ever: keep the collector from looking at it."""
    gc.collect()
    gc.freeze()
