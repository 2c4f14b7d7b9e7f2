"""An executor that runs many coroutine functions in one event loop."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from nbqueue.calls.modules import active_modules
from nbqueue.executor import pipe
from nbqueue.executor.control import watch
from nbqueue.executor.pipe import DoneFrame, Frames, TaskFrame
from nbqueue.executor.run_task import Runner, stop_exception, task_of
from nbqueue.executor.seeded_random import set_seed
from nbqueue.tasks.task import set_current

_MOST_GIVEN = 4
"""The maximum number of frames of other threads that wait for the loop."""


class LoopExecutor:
    """Runs each task as an `asyncio.Task`, which it cancels to stop it."""

    def __init__(self, connection: socket.socket, control: int) -> None:
        self._connection = connection
        self._control = control
        self._runner = Runner(self._send_soon)
        self._given = self._taken = 0
        # The output of a task that blocks the loop must not fill the memory.
        self._runner.reports.is_busy = lambda: self._given - self._taken > _MOST_GIVEN
        self._loop: asyncio.AbstractEventLoop | None = None
        self._kept: tuple[Any, Any, bool]
        self._started: asyncio.Task[None] | None = None
        self._running: dict[int, asyncio.Task[None]] = {}
        self._reasons: dict[int, int] = {}
        self._frames = Frames()
        self._out: deque[bytes | memoryview] = deque()
        """Frames that the socket did not take yet."""
        self._sent = asyncio.Event()
        self._ended = asyncio.Event()

    async def serve(self) -> None:
        """Run tasks until the supervisor stops the executor."""
        loop = self._loop = asyncio.get_running_loop()

        def interrupt(number: int, reason: int) -> None:
            loop.call_soon_threadsafe(self._interrupt, number, reason)

        watch(self._control, interrupt)
        self._connection.setblocking(False)
        loop.add_reader(self._connection, self._receive)
        await self._ended.wait()
        while self._running:
            await asyncio.wait(set(self._running.values()))
        for hook in self._runner.service.on_stop:
            await _called(hook)
        while self._out:
            self._sent.clear()
            await self._sent.wait()

    def _send_soon(self, data: bytes) -> None:
        """Send a frame from another thread."""
        assert self._loop is not None
        self._given += 1
        self._loop.call_soon_threadsafe(self._take, data)

    def _take(self, data: bytes) -> None:
        self._taken += 1
        self._send(data)

    def _send(self, data: bytes) -> None:
        """Send a frame at once.

        The task that runs next may block the loop for long.
        """
        self._out.append(data)
        if len(self._out) == 1:
            self._flush()

    def _flush(self) -> None:
        assert self._loop is not None
        out = self._out
        try:
            while out:
                data = memoryview(out[0])
                count = self._connection.send(data)
                if count == len(data):
                    out.popleft()
                else:
                    out[0] = data[count:]
        except BlockingIOError:
            self._loop.add_writer(self._connection, self._flush)
            return
        except OSError:
            os._exit(70)  # the supervisor is gone
        self._loop.remove_writer(self._connection)
        self._sent.set()

    def _receive(self) -> None:
        try:
            frames = self._frames.receive(self._connection)
        except BlockingIOError:
            return
        if frames is None:
            os._exit(70)
        for kind, body in frames:
            if kind == pipe.TASK:
                self._begin(pipe.unpack_task(body))
            elif kind == pipe.CODE:
                self._runner.add_code(body)
            elif kind == pipe.SERVICE:
                self._started = asyncio.create_task(self._start(body))
            elif kind == pipe.STOP:
                self._ended.set()

    async def _start(self, body: bytes) -> None:
        """Run the owner's hooks. Tasks wait until these have run."""
        try:
            for hook in self._runner.take_service(body):
                await _called(hook)
        except BaseException:
            traceback.print_exc()
            os._exit(1)  # the supervisor logs that executors do not start
        self._runner.state.keep()
        self._keep_loop()
        # Before the first task begins, which may block the loop: its time-out counts from here.
        self._send(pipe.frame(pipe.HELLO, pipe.PERMIT.pack(os.getpid())))

    def _begin(self, frame: TaskFrame) -> None:
        # Without the loop's task factory, which may be the user's.
        task = asyncio.Task(self._run(frame), loop=self._loop)
        self._running[frame.number] = task
        task.add_done_callback(lambda task: self._never_began(frame))
        if frame.number in self._reasons:
            task.cancel()

    def _never_began(self, frame: TaskFrame) -> None:
        # A coroutine that is cancelled before its first step never reaches its `except`.
        if frame.number in self._running:
            error = stop_exception(self._reasons.get(frame.number, pipe.CANCELLED))
            self._finish(frame, self._runner.failed(frame, error, time.perf_counter_ns()))

    async def _run(self, task: TaskFrame) -> None:
        started = time.perf_counter_ns()
        job = None
        try:
            if self._started is not None and not self._started.done():
                await asyncio.shield(self._started)
            if task.is_late:
                self._forget(task)
                self._send(pipe.pack_not_begun(task.number))
                return
            self._runner.state.begin(task.number)
            self._runner.reports.begin(task)
            job = self._runner.prepare(task)
            set_current(job.task)
            if task.seed:
                set_seed(task.seed)
            value = await _called(job.function, *job.args, **job.kwargs)
            done = self._runner.succeeded(task, value, started)
        except asyncio.CancelledError as error:
            reason = self._reasons.get(task.number)
            done = await self._failed(task, stop_exception(reason) if reason else error, started)
        except BaseException as error:
            done = await self._failed(task, error, started)
        finally:
            if job is not None:
                active_modules.leave(job.modules)
        self._finish(task, done)

    async def _failed(self, frame: TaskFrame, error: BaseException, started: int) -> DoneFrame:
        for hook in self._runner.service.on_error:
            try:
                await _called(hook, task_of(frame), error)
            except Exception:
                traceback.print_exc()
        return self._runner.failed(frame, error, started)

    def _finish(self, task: TaskFrame, done: DoneFrame) -> None:
        self._forget(task)
        self._send(b"".join(self._runner.answer(done)))
        self._runner.ended(done)
        if not self._running:
            self._restore_loop()

    def _keep_loop(self) -> None:
        """Remember the settings of the loop after the owner's hooks."""
        loop = self._loop
        assert loop is not None
        self._kept = loop.get_task_factory(), loop.get_exception_handler(), loop.get_debug()

    def _restore_loop(self) -> None:
        """Restore the settings of the loop, which a task may have changed."""
        loop = self._loop
        assert loop is not None
        factory, handler, is_debug = self._kept
        if loop.get_task_factory() is not factory:
            loop.set_task_factory(factory)
        if loop.get_exception_handler() is not handler:
            loop.set_exception_handler(handler)
        if loop.get_debug() is not is_debug:
            loop.set_debug(is_debug)

    def _forget(self, task: TaskFrame) -> None:
        self._running.pop(task.number, None)
        self._reasons.pop(task.number, None)

    def _interrupt(self, number: int, reason: int) -> None:
        task = self._running.get(number)
        # Kept, as the task may still be on its way here.
        self._reasons[number] = reason
        if task is not None:
            task.cancel()


async def _called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    value = function(*args, **kwargs)
    return await value if inspect.isawaitable(value) else value
