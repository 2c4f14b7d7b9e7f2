"""An executor that runs functions in threads, for work that mostly waits."""

from __future__ import annotations

import contextvars
import ctypes
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from nbqueue.executor import pipe
from nbqueue.executor.control import watch
from nbqueue.executor.pipe import Frames, TaskFrame
from nbqueue.executor.run_task import Interrupted, Runner, call_hook, run_sync, stop_exception


class ThreadExecutor:
    """Runs up to ``capacity`` tasks at once.

    A thread can only be interrupted while it runs Python code. If it stays in a system call or in C
    code, the supervisor ends the whole process, and the other tasks in it run again.
    """

    def __init__(self, connection: socket.socket, control: int, capacity: int) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._runner = Runner(self._send)
        self._pool = ThreadPoolExecutor(capacity, thread_name_prefix="nbqueue")
        self._threads: dict[int, int] = {}
        self._early: dict[int, int] = {}
        self._lock = threading.Lock()
        watch(control, self._interrupt)

    def serve(self) -> None:
        """Run tasks until the supervisor stops the executor or is gone."""
        frames = Frames()
        while True:
            found = frames.receive(self._connection)
            if found is None:
                os._exit(70)
            for kind, body in found:
                if kind == pipe.TASK:
                    context = contextvars.Context()
                    self._pool.submit(context.run, self._run, pipe.unpack_task(body))
                elif kind == pipe.CODE:
                    self._runner.add_code(body)
                elif kind == pipe.SERVICE:
                    for hook in self._runner.take_service(body):
                        call_hook(hook)
                    self._runner.state.keep()
                    self._send(pipe.frame(pipe.HELLO, pipe.PERMIT.pack(os.getpid())))
                elif kind == pipe.STOP:
                    self._pool.shutdown(wait=True)
                    for hook in self._runner.service.on_stop:
                        call_hook(hook)
                    return

    def _run(self, task: TaskFrame) -> None:
        if task.is_late:
            with self._lock:
                self._early.pop(task.number, None)
            self._send(pipe.pack_not_begun(task.number))
            return
        interrupted = Interrupted()
        with self._lock:
            self._threads[task.number] = threading.get_ident()
            interrupted.reason = self._early.pop(task.number, 0)
            interrupted.asked = task.number if interrupted.reason else -1
        self._runner.state.begin(task.number)
        try:
            done = run_sync(self._runner, task, interrupted)
        finally:
            with self._lock:
                del self._threads[task.number]
        self._send(b"".join(self._runner.answer(done)))
        self._runner.ended(done)

    def _send(self, data: bytes) -> None:
        with self._sending:
            self._connection.sendall(data)

    def _interrupt(self, number: int, reason: int) -> None:
        with self._lock:
            thread = self._threads.get(number)
            if thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(type(stop_exception(reason)))
                )
            else:
                self._early[number] = reason
