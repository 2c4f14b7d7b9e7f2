"""An executor of coroutine functions: many at once, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time

from nbqueue.executor import pipe
from nbqueue.executor.context import set_current
from nbqueue.executor.control import watch
from nbqueue.executor.pipe import DoneFrame, Frames, TaskFrame
from nbqueue.executor.run import (
    Functions,
    failed,
    prepare,
    stop_exception,
    succeeded,
    task_context,
)

_RECEIVE = 262_144


class LoopExecutor:
    """Runs each task as an `asyncio.Task`; to stop one is to cancel it."""

    def __init__(self, connection: socket.socket, control: int) -> None:
        self._connection = connection
        self._control = control
        self._functions = Functions()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._reasons: dict[int, int] = {}
        self._frames = Frames()
        self._out: asyncio.Queue[bytes] = asyncio.Queue()
        self._ended = asyncio.Event()

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()

        def interrupt(number: int, reason: int) -> None:
            loop.call_soon_threadsafe(self._interrupt, number, reason)

        watch(self._control, interrupt)
        self._connection.setblocking(False)
        self._out.put_nowait(pipe.frame(pipe.HELLO, pipe.PERMIT.pack(os.getpid())))
        sender = asyncio.create_task(self._send())
        loop.add_reader(self._connection, self._receive)
        await self._ended.wait()
        while self._running:
            await asyncio.wait(set(self._running.values()))
        await self._out.join()
        sender.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sender

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            parts = [await self._out.get()]
            while not self._out.empty():
                parts.append(self._out.get_nowait())
            await loop.sock_sendall(self._connection, b"".join(parts))
            for _ in parts:
                self._out.task_done()

    def _receive(self) -> None:
        try:
            data = self._connection.recv(_RECEIVE)
        except BlockingIOError:
            return
        if not data:
            os._exit(70)
        for kind, body in self._frames.feed(data):
            if kind == pipe.TASK:
                self._begin(pipe.unpack_task(body))
            elif kind == pipe.CODE:
                self._functions.add(body)
            elif kind == pipe.STOP:
                self._ended.set()

    def _begin(self, frame: TaskFrame) -> None:
        task = asyncio.create_task(self._run(frame))
        self._running[frame.number] = task
        task.add_done_callback(lambda task: self._never_began(frame))
        if frame.number in self._reasons:
            task.cancel()

    def _never_began(self, frame: TaskFrame) -> None:
        # Cancelled before its first step, a coroutine does not even get to its `except`.
        if frame.number in self._running:
            error = stop_exception(self._reasons.get(frame.number, pipe.CANCELLED))
            self._finish(frame, failed(frame, error, time.perf_counter_ns()))

    async def _run(self, task: TaskFrame) -> None:
        started = time.perf_counter_ns()
        set_current(task_context(task))
        try:
            function, args, kwargs = prepare(self._functions, task)
            value = await function(*args, **kwargs)
            done = succeeded(task, value, started)
        except asyncio.CancelledError as error:
            reason = self._reasons.get(task.number)
            done = failed(task, stop_exception(reason) if reason else error, started)
        except BaseException as error:
            done = failed(task, error, started)
        self._finish(task, done)

    def _finish(self, task: TaskFrame, done: DoneFrame) -> None:
        self._running.pop(task.number, None)
        self._reasons.pop(task.number, None)
        self._out.put_nowait(pipe.pack_done(done))

    def _interrupt(self, number: int, reason: int) -> None:
        task = self._running.get(number)
        # Kept for a task that is still on its way, too.
        self._reasons[number] = reason
        if task is not None:
            task.cancel()
