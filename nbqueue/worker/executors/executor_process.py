"""An executor process, seen from its supervisor."""

from __future__ import annotations

import os
import signal
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame, Frames, TaskFrame
from nbqueue.runtime.buffers import LARGE, Piece, send_pieces
from nbqueue.runtime.process_memory import note_large
from nbqueue.runtime.reactor import Reactor
from nbqueue.worker.executors.spawn import LOOP, SYNC, THREADS, take
from nbqueue.worker.tasks.attempt import Attempt

__all__ = [
    "LOOP",
    "NOT_BEGUN",
    "SYNC",
    "THREADS",
    "ExecutorExit",
    "ExecutorGone",
    "ExecutorProcess",
]


class ExecutorExit(NamedTuple):
    """The end of a process, in a word or two and as a sentence."""

    reason: str
    text: str


NOT_BEGUN = ExecutorExit("not begun", "it had not begun")
"""For an attempt that is ended before an executor began it."""


class ExecutorGone(Exception):
    """The process has closed its end of the socket."""


class ExecutorProcess:
    """A process that runs tasks, the socket to it, and its attempts.

    ``attempts`` are in the order sent. In a sync executor the first may be running and the others
    are queued behind it; `take_back` returns those that it has not begun.
    """

    def __init__(
        self, kind: str, capacity: int, service: bytes = b"", is_fresh: bool = False
    ) -> None:
        """Start the process, or take a prepared one.

        ``service``: the body of the `pipe.SERVICE` frame. A fresh executor runs one task,
        and ends.
        """
        self.kind = kind
        self.is_fresh = is_fresh
        self.capacity = capacity
        self.attempts: OrderedDict[int, Attempt] = OrderedDict()
        self.known_code = {pipe.NO_CODE, pipe.AGGREGATION}
        """Fingerprints of code that was sent, or that belongs to the service."""
        self.ready = False
        self.retiring = False
        self.is_stopped = False
        self.finished = 0
        self.began_at = 0.0
        self.kill_reason = ""
        self.culprit: Attempt | None = None
        self.peak_memory = 0
        self.reported: list[tuple[Attempt, int, bytes]] = []
        """Reports of running attempts: the attempt, the kind, the body."""
        self.returned: list[Attempt] = []
        """Attempts that the executor received too late to begin."""
        self._frames = Frames()
        self.wants_write = True
        """True if bytes wait to be sent."""
        self._out = bytearray(pipe.frame(pipe.SERVICE, service))
        self._permits_out = b""
        self._pieces: deque[Piece] = deque()
        """Bytes that go before ``_out`` and are too large to be copied."""
        self._pidfd = -1
        spawned = take(kind, capacity)
        self.process = spawned.process
        self._socket = spawned.socket
        self._permits, self._permit_writer = spawned.permits, spawned.permit_writer
        self._control = spawned.control

    @property
    def pid(self) -> int:
        return self.process.pid

    def fileno(self) -> int:
        return self._socket.fileno()

    def watch_end(self, reactor: Reactor, on_end: Callable[[], None]) -> None:
        """Call ``on_end`` once when the process has ended.

        The socket does not show that: a forked child may hold it open, and a task may close it.
        """
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(self.pid)
            reactor.watch(self._pidfd, on_end)
        else:
            reactor.in_thread(self.process.wait, lambda code: on_end())

    def forget_end(self, reactor: Reactor) -> None:
        """Stop watching for the end of the process."""
        if self._pidfd != -1:
            reactor.forget(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    @property
    def is_unused(self) -> bool:
        """True if the process has never had a task and may get one."""
        return not (self.attempts or self.finished or self.retiring)

    def is_idle_since(self, before: float) -> bool:
        """Return whether the process has had no task since ``before``, on the reactor's clock."""
        return self.ready and not self.attempts and self.began_at <= before

    def is_used_up(self, most_tasks: int | None, most_memory: int | None) -> bool:
        """Return whether the process reached its limit of tasks or memory."""
        if self.is_fresh:
            return self.finished > 0
        return (most_tasks is not None and self.finished >= most_tasks) or (
            most_memory is not None and self.peak_memory >= most_memory
        )

    def send_code(self, fingerprint: bytes, blob: bytes) -> None:
        """Queue the code of a function; `flush` sends."""
        self.known_code.add(fingerprint)
        self._out += pipe.frame(pipe.CODE, fingerprint + blob)
        self.wants_write = True

    def send_task(self, attempt: Attempt, frame: TaskFrame, now: float) -> None:
        """Queue a task; `flush` sends. Its permit goes first."""
        if self.kind == SYNC:
            self._permits_out += pipe.PERMIT.pack(attempt.number)
        if not self.attempts:
            self.began_at = now
        self.attempts[attempt.number] = attempt
        attempt.executor = self
        attempt.sent_at = now
        self.wants_write = True
        self._out += pipe.task_head(frame)
        if len(frame.arguments) <= LARGE:
            self._out += frame.arguments
            return
        note_large()
        self._pieces += (self._out, frame.arguments)
        self._out = bytearray()

    def flush(self) -> None:
        """Send queued bytes, as many as the socket takes."""
        if self._permits_out:
            self._send_permits()
        while self._out or self._pieces:
            try:
                if self._pieces:
                    send_pieces(self._socket, self._pieces)
                    continue
                sent = self._socket.send(self._out)
            except BlockingIOError:
                return
            except OSError as error:
                raise ExecutorGone from error
            if sent == len(self._out):
                self._out = bytearray()
            else:
                del self._out[:sent]
        self.wants_write = False

    def read(self, now: float) -> list[tuple[Attempt, DoneFrame]]:
        """Return the attempts that ended. Raises `ExecutorGone` when no answer can follow."""
        ended: list[tuple[Attempt, DoneFrame]] = []
        try:
            frames = self._frames.receive(self._socket)
        except BlockingIOError:
            return ended
        except OSError as error:
            raise ExecutorGone from error
        if frames is None:
            raise ExecutorGone
        for kind, body in frames:
            if kind == pipe.DONE:
                done = pipe.unpack_done(body)
                attempt = self.attempts.pop(done.number, None)
                self.finished += 1
                self.peak_memory = done.peak_memory
                self.began_at = now
                if attempt is not None:
                    ended.append((attempt, done))
            elif kind == pipe.REPORT:
                number, report_kind, report = pipe.unpack_report(body)
                if number in self.attempts:
                    self.reported.append((self.attempts[number], report_kind, report))
            elif kind == pipe.NOT_BEGUN:
                late = self.attempts.pop(pipe.PERMIT.unpack(body)[0], None)
                self.began_at = now
                if late is not None:
                    late.executor = None
                    self.returned.append(late)
            elif kind == pipe.HELLO:
                self.ready = True
                self.began_at = now
        return ended

    def _send_permits(self) -> None:
        if self._permits_out:
            # These are far fewer than fit into a pipe.
            os.write(self._permit_writer, self._permits_out)
            self._permits_out = b""

    def take_back(self) -> list[Attempt]:
        """Return the attempts queued behind the running one.

        The executor will not begin them.
        """
        if self.kind != SYNC:
            return []
        taken: list[Attempt] = []
        self._send_permits()
        while True:
            try:
                records = os.read(self._permits, 64 * pipe.PERMIT.size)
            except BlockingIOError:
                break
            if not records:
                break
            for (number,) in pipe.PERMIT.iter_unpack(records):
                attempt = self.attempts.pop(number, None)
                if attempt is not None:
                    attempt.executor = None
                    taken.append(attempt)
        return taken

    def interrupt(self, attempt: Attempt, reason: int) -> None:
        """Raise an exception in the task, which should end it."""
        try:
            os.write(self._control, pipe.INTERRUPT.pack(attempt.number, reason))
        except OSError:
            pass  # it is ending, which is noticed elsewhere

    def give_back_memory(self) -> None:
        """Have the process return the memory of large values to the system."""
        try:
            os.write(self._control, pipe.GIVE_BACK)
        except OSError:
            pass  # it is ending, or busy: the pipe is full

    def stop(self) -> None:
        """Have the process end when its attempts have ended."""
        self.retiring = self.is_stopped = True
        self._out += pipe.frame(pipe.STOP)
        self.wants_write = True

    def kill(self, reason: str, culprit: Attempt | None = None) -> None:
        """Kill the process.

        ``reason`` explains the loss of its attempts; ``culprit`` is the one that caused it.
        """
        if not self.kill_reason:
            self.kill_reason, self.culprit = reason, culprit
        self.retiring = self.is_stopped = True
        try:
            self.process.kill()
        except ProcessLookupError:
            pass

    def dump_stacks(self) -> None:
        """Have the process write the stacks of its threads, once it has started."""
        if self.ready:
            self.process.send_signal(signal.SIGQUIT)

    def why_gone(self) -> ExecutorExit:
        """Wait for the end of the process, and return its reason."""
        if self.kill_reason:
            return ExecutorExit("killed", self.kill_reason)
        code = self.process.wait()
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            hint = ", by a person or because memory ran out" if name == "SIGKILL" else ""
            return ExecutorExit(name, f"its process was killed with {name}{hint}")
        return ExecutorExit(f"exit code {code}", f"its process ended with exit code {code}")

    def close(self) -> None:
        """Close the files; kill the process if it still runs."""
        self._socket.close()
        for number in (self._permits, self._permit_writer, self._control):
            try:
                os.close(number)
            except OSError:
                pass
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
