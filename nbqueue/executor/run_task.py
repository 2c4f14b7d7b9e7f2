"""Run a task, from its frame to its outcome."""

from __future__ import annotations

import inspect
import os
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from nbqueue.calls import functions, raw_exceptions
from nbqueue.calls.exceptions import dump_exception, error_text
from nbqueue.calls.functions import Loaded
from nbqueue.calls.modules import active_modules
from nbqueue.calls.modules.module_set import ModuleSet
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
from nbqueue.executor.output.result_previews import SIMPLE, pack_preview
from nbqueue.executor.output.task_reports import Reports, reported_result
from nbqueue.executor.pipe import DoneFrame, TaskFrame, TaskHead
from nbqueue.executor.process_state import ProcessState
from nbqueue.executor.seeded_random import clear_seed, set_seed
from nbqueue.executor.value_encoding import encode_value
from nbqueue.runtime.buffers import LARGE, Body, ChunkedBytes, Piece
from nbqueue.tasks import aggregation_group
from nbqueue.tasks.message_handlers import HandlerService
from nbqueue.tasks.retry_policy import Policy
from nbqueue.tasks.task import Task, make_task, reset_current, set_current

_MOST_FUNCTIONS = 256


class Interrupted:
    """The running task's number, and the task to end with the reason.

    Only the thread that runs tasks sets ``number``; only the control thread sets the other two.
    """

    __slots__ = ("asked", "number", "reason")

    def __init__(self) -> None:
        self.number = -1
        self.asked = -1
        self.reason = 0

    def exception(self) -> BaseException | None:
        """Return the exception to raise in the running task, if it must end."""
        if self.number == -1 or self.number != self.asked:
            return None
        self.asked = -1
        return stop_exception(self.reason)


def stop_exception(reason: int) -> BaseException:
    """Return the exception that ends a task for this reason."""
    return TaskCancelled() if reason == pipe.CANCELLED else TaskTimeout()


class CannotLoad(NbqueueError):
    """A task's code or arguments cannot be loaded here; a retry is useless."""


@dataclass(slots=True)
class Job:
    """A task, ready to be called."""

    task: Task | TaskHead
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    modules: ModuleSet


class Runner:
    """The common part of all executors: the code of tasks, and their outcomes.

    Code is unpickled when it is first called, and kept. ``send`` sends a frame, from any thread.
    """

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self.service = HandlerService()
        self.reports = Reports(send)
        self.state = ProcessState()
        self._makes_previews = False
        self._blobs: dict[bytes, bytes] = {}
        self._loaded: OrderedDict[bytes, Loaded] = OrderedDict()
        self._service_modules = ModuleSet()
        self._pid = os.getpid()

    def add_code(self, body: bytes) -> None:
        """Store the code in the body of a `CODE` frame."""
        self._blobs[body[:16]] = body[16:]

    def take_service(self, body: bytes) -> list[Callable[[], Any]]:
        """Read the body of a `SERVICE` frame.

        Returns the hooks to run before the first task.
        """
        self._makes_previews, code = body[:1] == b"\1", body[1:]
        if code:
            make_service, self._service_modules = functions.load_code(code)
            active_modules.enter(self._service_modules)
            active_modules.leave(self._service_modules)  # the hooks still find them
            service = make_service()
            assert isinstance(service, HandlerService)
            self.service = service
        return self.service.on_start

    def prepare(self, frame: TaskFrame) -> Job:
        """Unpickle a task.

        Its code finds its modules until these are left.

        Raises `CannotLoad`, with the reason as its cause.
        """
        task = task_of(frame) if frame.is_message else frame.head
        function: Callable[..., Any] | None
        args: tuple[Any, ...] = (task,)
        kwargs: dict[str, Any] = {}
        try:
            if frame.fingerprint == pipe.AGGREGATION:
                function, modules = self.service.aggregator, self._service_modules
                assert function is not None
                args = aggregation_group.unpack_members(bytes(frame.arguments), frame.queue)
            elif frame.is_message:
                function, modules = self._handler(frame)
            else:
                function, modules = self._function(frame.fingerprint)
                args, kwargs, modules = functions.load_arguments_for(frame.arguments, modules)
        except Exception as error:
            hint = ""
            if isinstance(error, ModuleNotFoundError) and error.name:
                hint = f"; install {error.name.partition('.')[0]!r} where the worker runs"
            raise CannotLoad(
                f"{frame.type} cannot be loaded by this worker (Python "
                f"{sys.version_info[0]}.{sys.version_info[1]}): {error_text(error)}{hint}"
            ) from error
        active_modules.enter(modules)
        return Job(task, function, args, kwargs, modules)

    def _function(self, fingerprint: bytes) -> Loaded:
        found = self._loaded.get(fingerprint)
        if found is None:
            found = functions.load_code(self._blobs[fingerprint])
            self._loaded[fingerprint] = found
            if len(self._loaded) > _MOST_FUNCTIONS:
                self._loaded.popitem(last=False)
        return found

    def _handler(self, frame: TaskFrame) -> Loaded:
        if frame.fingerprint == pipe.NO_CODE:
            return Loaded(self.service.handler(frame.type), self._service_modules)
        function, modules = self._function(frame.fingerprint)
        return Loaded(self.service.wrapped(function), modules)

    def succeeded(self, frame: TaskFrame, value: object, started: int) -> DoneFrame:
        """Return the outcome of a task that returned ``value``."""
        micros = (time.perf_counter_ns() - started) // 1000
        body: Body
        try:
            if frame.fingerprint == pipe.AGGREGATION:
                body = aggregation_group.pack_message(value)
            elif frame.is_message and value is None:
                body = reported_result()
            else:
                body = encode_value(frame, value)
        except (CannotPickle, TypeError, ValueError) as error:
            return self.failed(frame, error, started, for_good=True)
        preview = b""
        if type(value) not in SIMPLE or len(body) > LARGE:
            preview = self._preview(frame, value, body)
        return pipe.value_frame(frame.number, micros, peak_memory(micros), body, preview)

    def _preview(self, frame: TaskFrame, value: object, body: Body) -> bytes:
        if not self._makes_previews or frame.is_message or frame.json_result:
            return b""
        return pack_preview(value, body)

    def failed(
        self, frame: TaskFrame, error: BaseException, started: int, for_good: bool = False
    ) -> DoneFrame:
        """Return the outcome of a task that raised ``error``."""
        micros = (time.perf_counter_ns() - started) // 1000
        outcome, delay, counts = pipe.FAILED, -1.0, True
        try:
            outcome, delay, counts = self._verdict(frame, error)
        except Exception as wrong:
            # An error in the user's policy must not hide the error of the task.
            raw_exceptions.add_note(error, f"and its retry policy failed: {error_text(wrong)}")
        text = error_text(error)
        if isinstance(error, CannotLoad):
            text = str(error)
        if for_good or isinstance(error, SkipRetry | CannotLoad | CannotPickle):
            outcome = pipe.FAILED_FOR_GOOD
        body = dump_exception(error)
        # The frames of the traceback hold the task's variables, perhaps gigabytes.
        raw_exceptions.drop_traceback(error)
        peak = peak_memory(micros)
        return DoneFrame(frame.number, outcome, micros, peak, delay, counts, text, body)

    def answer(self, done: DoneFrame) -> Iterable[Piece]:
        """Return an outcome's frames, in parts, behind the task's last reports."""
        last = self.reports.end(done.number, keep=done.outcome != pipe.VALUE)
        if isinstance(done.body, ChunkedBytes):
            return chain((last,), pipe.done_parts(done))
        return (last + pipe.done_head(done) + done.body,)

    def is_exit_of_child(self, error: BaseException) -> bool:
        """Return whether ``error`` ends a child that a task forked."""
        return isinstance(error, SystemExit | KeyboardInterrupt) and os.getpid() != self._pid

    def ended(self, done: DoneFrame) -> None:
        """Restore the changes of one of several tasks to this process."""
        self.state.end(done.number, was_long=done.micros >= LOOK_AFTER_MICROS)

    def _verdict(self, frame: TaskFrame, error: BaseException) -> tuple[int, float, bool]:
        if isinstance(error, RetryLater):
            delay = parse_duration(error.delay, "RetryLater")  # type: ignore[arg-type]
            return pipe.LATER, delay, error.counts
        if isinstance(error, RevokeTask):
            return pipe.REVOKED, -1.0, True
        if isinstance(error, TaskCancelled):
            return pipe.CANCELLED, -1.0, True
        policy = self.service.policy
        if not frame.is_message:
            loaded = self._loaded.get(frame.fingerprint)
            own = None if loaded is None else getattr(loaded.function, "policy", None)
            if isinstance(own, Policy):
                policy = own.over(policy)
        if policy.retry_on is not None and not isinstance(error, policy.retry_on):
            return pipe.FAILED_FOR_GOOD, -1.0, True
        counts = policy.is_failure is None or bool(policy.is_failure(error))
        chosen = policy.delay_for(frame.retried, error, task_of(frame))
        return pipe.FAILED, -1.0 if chosen is None else chosen, counts


def task_of(frame: TaskFrame) -> Task:
    """Return the task as its own code sees it."""
    return make_task(frame.head, bytes(frame.arguments) if frame.is_message else b"")


def run_sync(runner: Runner, frame: TaskFrame, interrupted: Interrupted) -> DoneFrame:
    """Run a task in this thread; return its outcome for any exception.

    In a child that the task forked, `SystemExit` and `KeyboardInterrupt` do end the process.
    """
    started = time.perf_counter_ns()
    token = job = None
    try:
        try:
            runner.reports.begin(frame)
            job = runner.prepare(frame)
            token = set_current(job.task)
            if frame.seed:
                set_seed(frame.seed)
            interrupted.number = frame.number
            early = interrupted.exception()
            if early is not None:
                raise early
            value = job.function(*job.args, **job.kwargs)
            interrupted.number = -1
            done = runner.succeeded(frame, value, started)
        except BaseException as error:
            interrupted.number = -1
            if runner.is_exit_of_child(error):
                raise
            done = _failed_sync(runner, frame, error, started)
    except BaseException as error:
        if runner.is_exit_of_child(error):
            raise
        # The interrupt came between the two lines above.
        interrupted.number = -1
        done = runner.failed(frame, error, started)
    finally:
        if token is not None:
            reset_current(token)
            if frame.seed:
                clear_seed()
        if job is not None:
            active_modules.leave(job.modules)
    return done


def _failed_sync(runner: Runner, frame: TaskFrame, error: BaseException, started: int) -> DoneFrame:
    for hook in runner.service.on_error:
        try:
            call_hook(hook, task_of(frame), error)
        except Exception:
            traceback.print_exc()  # into the worker's log; the task's own error is reported
    return runner.failed(frame, error, started)


def call_hook(hook: Callable[..., Any], *args: Any) -> None:
    """Call a hook from synchronous code; a coroutine is run to its end."""
    returned = hook(*args)
    if inspect.isawaitable(returned):

        async def wait() -> None:
            await returned

        import asyncio

        asyncio.run(wait())


LOOK_AFTER_MICROS = 2_000
_last_peak = 0
_status: tuple[int, int] | None = None
"""This process, and its open ``/proc/self/status``."""


def peak_memory(micros: int) -> int:
    """Return this process's peak memory in bytes, or 0 if unknown.

    It is only read after tasks that ran for `LOOK_AFTER_MICROS`, because reading takes time as
    well.
    """
    global _last_peak
    if micros >= LOOK_AFTER_MICROS or not _last_peak:
        _last_peak = _read_peak_memory()
    return _last_peak


def _read_peak_memory() -> int:
    global _status
    # getrusage would include the memory of the supervisor at the fork. The file stays open, as
    # opening takes three times as long as reading; a task may have closed it.
    for _ in range(2):
        try:
            if _status is None or _status[0] != os.getpid():
                _status = os.getpid(), os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
            found = os.pread(_status[1], 4096, 0).partition(b"VmHWM:")[2]
            if found:
                return int(found.split(maxsplit=1)[0]) * 1024
        except (OSError, ValueError):
            pass
        _status = None
    try:
        import resource
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
