"""An executor that runs ordinary functions one at a time, in its main thread."""

from __future__ import annotations

import os
import socket
from collections import deque

from nbqueue.executor import pipe
from nbqueue.executor.control import by_signal, watch
from nbqueue.executor.pipe import Frames, TaskFrame
from nbqueue.executor.run_task import LOOK_AFTER_MICROS, Interrupted, Runner, call_hook, run_sync
from nbqueue.runtime.busy_poll import BusyPoll


class SyncExecutor:
    """Receives tasks, claims each by its permit, runs it, and answers."""

    def __init__(self, connection: socket.socket, permits: int, control: int) -> None:
        self._connection = connection
        self._permits = permits
        self._frames = Frames()
        self._runner = Runner(connection.sendall)
        self._tasks: deque[TaskFrame] = deque()
        self._stopping = False
        self._spin = BusyPoll()
        self._interrupted = Interrupted()
        watch(control, by_signal(self._interrupted))

    def serve(self) -> None:
        """Run tasks until the supervisor stops the executor or is gone."""
        state = self._runner.state
        while True:
            task = self._next()
            if task is None:
                break
            done = run_sync(self._runner, task, self._interrupted)
            answer = self._runner.answer(done)
            for part in answer:
                self._connection.sendall(part)
                del part
            state.check(done.micros >= LOOK_AFTER_MICROS)
            del task, done, answer  # they may be large
        for hook in self._runner.service.on_stop:
            call_hook(hook)

    def _next(self) -> TaskFrame | None:
        """Wait for a task to run; None: end."""
        while True:
            if self._tasks:
                task = self._claim()
                if task is not None:
                    if not task.is_late:
                        return task
                    self._connection.sendall(pipe.pack_not_begun(task.number))
                    continue
                # The supervisor took back all tasks that were received.
                self._tasks.clear()
            if self._stopping or not self._receive():
                return None

    def _claim(self) -> TaskFrame | None:
        """Return the task of the next permit, and skip tasks taken back.

        The task may still be on its way.
        """
        try:
            record = os.read(self._permits, pipe.PERMIT.size)
        except BlockingIOError:
            return None
        if not record:
            return None
        (number,) = pipe.PERMIT.unpack(record)
        while True:
            while self._tasks:
                task = self._tasks.popleft()
                if task.number == number:
                    return task
            if not self._receive():
                return None

    def _receive(self) -> bool:
        frames = self._frames.receive(self._connection, self._spin)
        if frames is None:
            return False
        for kind, body in frames:
            if kind == pipe.TASK:
                self._tasks.append(pipe.unpack_task(body))
            elif kind == pipe.CODE:
                self._runner.add_code(body)
            elif kind == pipe.SERVICE:
                for hook in self._runner.take_service(body):
                    call_hook(hook)
                self._runner.state.keep()
                self._connection.sendall(pipe.frame(pipe.HELLO, pipe.PERMIT.pack(os.getpid())))
            elif kind == pipe.STOP:
                self._stopping = True
        return True
