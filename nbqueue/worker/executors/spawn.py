"""Start the processes of executors.

An executor takes as long to start as a supervisor, so both start at once. This module imports next
to nothing.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from nbqueue.calls.keys.task_mark import executor_environment
from nbqueue.executor.signals import held_back
from nbqueue.runtime.interpreter import module_command

SYNC, THREADS, LOOP = "sync", "threads", "loop"

_BUFFER = 1 << 20


class Spawned:
    """An executor's process, and the supervisor's ends of its socket and pipes."""

    def __init__(self, kind: str, capacity: int) -> None:
        self.made_for = (kind, capacity)
        self.socket, other_end = socket.socketpair()
        self.permits, self.permit_writer = os.pipe()
        control, self.control = os.pipe()
        os.set_blocking(self.permits, False)
        os.set_blocking(self.permit_writer, False)
        os.set_blocking(self.control, False)
        self.socket.setblocking(False)
        for size in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self.socket.setsockopt(socket.SOL_SOCKET, size, _BUFFER)
            other_end.setsockopt(socket.SOL_SOCKET, size, _BUFFER)
        passed = (other_end.fileno(), self.permits, control)
        try:
            with held_back():
                self.process = subprocess.Popen(
                    module_command("nbqueue.executor", kind, str(capacity), *map(str, passed)),
                    stdin=subprocess.DEVNULL,
                    env=executor_environment(os.environ),
                    pass_fds=passed,
                )
        finally:
            other_end.close()
            os.close(control)

    def close(self) -> None:
        """Kill the process, which was never used."""
        self.socket.close()
        for number in (self.permits, self.permit_writer, self.control):
            os.close(number)
        self.process.kill()
        self.process.wait()


_prepared: list[Spawned] = []


def first_executors(executor: str, concurrency: int) -> tuple[str, int, int]:
    """Return the kind, capacity and number of a worker's first executors."""
    if executor == "thread":
        return THREADS, concurrency, 1
    return SYNC, 1, min(concurrency, os.cpu_count() or 1)


@contextmanager
def prepared(executor: str, concurrency: int) -> Iterator[None]:
    """Start the first executors of a worker.

    Kills those that were not taken, on exit.
    """
    kind, capacity, count = first_executors(executor, concurrency)
    _prepared.extend(Spawned(kind, capacity) for _ in range(count))
    try:
        yield
    finally:
        while _prepared:
            _prepared.pop().close()


def take(kind: str, capacity: int) -> Spawned:
    """Return a process of this kind, prepared or new."""
    for spawned in _prepared:
        if spawned.made_for == (kind, capacity):
            _prepared.remove(spawned)
            return spawned
    return Spawned(kind, capacity)
