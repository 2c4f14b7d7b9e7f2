"""A model of a supervisor's work, in three kinds of event loop.

Each version takes tasks from a Redis list, hands each to one of two echo processes over a socket
pair, and acknowledges to Redis in batches; nothing else. Printed for each: tasks per second with
5,000 waiting, and the median time from push to acknowledgement of one task at a time. The versions
take turns. See docs/decisions/0002-selector-loop.md.

    python tests/bench/loops.py
"""

from __future__ import annotations

import asyncio
import os
import queue
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hiredis

from nbqueue.store.connection import RawConnection, connect
from nbqueue.store.embedded import stop_server

TASKS = 5_000
TRIALS = 200
ROUNDS = 5
BATCH = 64
FRAME = 64
EXECUTORS = 2

ECHO = f"""
import socket, sys
s = socket.socket(fileno=int(sys.argv[1]))
held = b""
while True:
    data = s.recv(65536)
    if not data:
        break
    held += data
    while len(held) >= {FRAME}:
        s.sendall(held[:{FRAME}])
        held = held[{FRAME}:]
"""


def pack(*words: object) -> bytes:
    return hiredis.pack_command(words)  # type: ignore[no-any-return]


@contextmanager
def echoes() -> Iterator[list[socket.socket]]:
    """Two processes that send back what they get."""
    ours, processes = [], []
    for _ in range(EXECUTORS):
        here, there = socket.socketpair()
        command = [sys.executable, "-c", ECHO, str(there.fileno())]
        processes.append(subprocess.Popen(command, pass_fds=(there.fileno(),)))
        there.close()
        ours.append(here)
    try:
        yield ours
    finally:
        for here in ours:
            here.close()
        for process in processes:
            process.wait()


class Selector(threading.Thread):
    """One thread, one selector, as nbqueue's reactor."""

    def __init__(self, redis: RawConnection, sockets: list[socket.socket]) -> None:
        super().__init__(daemon=True)
        self.connection, self.redis, self.sockets = redis, redis.socket, sockets
        self.ended = False

    def run(self) -> None:
        reader = hiredis.Reader(notEnoughData=NOTHING)
        selector = selectors.DefaultSelector()
        for sock in (self.redis, *self.sockets):
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ)
        idle, ready, done = list(self.sockets), deque[bytes](), 0
        asked, waiting, kinds = False, False, deque[str]()
        while not self.ended:
            if not asked and not ready and idle:
                if waiting:
                    self.redis.sendall(pack("BLMOVE", "wait", "wait", "RIGHT", "RIGHT", "0.2"))
                    kinds.append("wait")
                else:
                    self.redis.sendall(pack("RPOP", "wait", BATCH))
                    kinds.append("pop")
                asked = True
            while ready and idle:
                idle.pop().send(ready.popleft())
            if done:
                self.redis.sendall(pack("LPUSH", "done", *(b"x" for _ in range(done))))
                kinds.append("done")
                done = 0
            for key, _ in selector.select(0.2):
                if key.fileobj is self.redis:
                    reader.feed(self.redis.recv(65536))
                    while (reply := reader.gets()) is not NOTHING:
                        kind = kinds.popleft()
                        if kind == "pop":
                            asked, waiting = False, not reply
                            ready.extend(reply or ())
                        elif kind == "wait":
                            asked = waiting = False
                else:
                    sock = key.fileobj
                    done += len(sock.recv(65536)) // FRAME  # type: ignore[union-attr]
                    idle.append(sock)  # type: ignore[arg-type]


class Asyncio(threading.Thread):
    """The loop in asyncio, with protocols, its fastest interface."""

    def __init__(self, redis: RawConnection, sockets: list[socket.socket]) -> None:
        super().__init__(daemon=True)
        self.connection, self.redis, self.sockets = redis, redis.socket, sockets
        self.ended = False

    def run(self) -> None:
        asyncio.run(self.main())

    async def main(self) -> None:
        loop = asyncio.get_running_loop()
        reader = hiredis.Reader(notEnoughData=NOTHING)
        idle, ready, kinds = [], deque[bytes](), deque[str]()
        state = {"asked": False, "waiting": False, "done": 0, "flushing": False}

        def step() -> None:
            if not state["asked"] and not ready and idle:
                if state["waiting"]:
                    store.write(pack("BLMOVE", "wait", "wait", "RIGHT", "RIGHT", "0.2"))
                    kinds.append("wait")
                else:
                    store.write(pack("RPOP", "wait", BATCH))
                    kinds.append("pop")
                state["asked"] = True
            while ready and idle:
                idle.pop().write(ready.popleft())
            if state["done"] and not state["flushing"]:
                state["flushing"] = True
                loop.call_soon(flush)

        def flush() -> None:
            state["flushing"] = False
            store.write(pack("LPUSH", "done", *(b"x" for _ in range(state["done"]))))
            kinds.append("done")
            state["done"] = 0

        class Store(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                reader.feed(data)
                while (reply := reader.gets()) is not NOTHING:
                    kind = kinds.popleft()
                    if kind == "pop":
                        state["asked"], state["waiting"] = False, not reply
                        ready.extend(reply or ())
                    elif kind == "wait":
                        state["asked"] = state["waiting"] = False
                step()

        class Echo(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport
                idle.append(transport)

            def data_received(self, data: bytes) -> None:
                state["done"] += len(data) // FRAME
                idle.append(self.transport)
                step()

        store: asyncio.Transport
        store, _ = await loop.create_unix_connection(Store, sock=self.redis)
        for sock in self.sockets:
            await loop.create_unix_connection(Echo, sock=sock)
        step()
        while not self.ended:
            await asyncio.sleep(0.1)


class Threads(threading.Thread):
    """A thread that fetches, one for each echo process, and one that acknowledges."""

    def __init__(self, redis: RawConnection, sockets: list[socket.socket]) -> None:
        super().__init__(daemon=True)
        self.connection, self.redis, self.sockets = redis, redis.socket, sockets
        self.ended = False
        self.tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.room = threading.Semaphore(BATCH + EXECUTORS)

    def carry(self, sock: socket.socket) -> None:
        while True:
            sock.sendall(self.tasks.get())
            self.done.put(sock.recv(FRAME))
            self.room.release()

    def acknowledge(self, redis: socket.socket) -> None:
        reader = hiredis.Reader(notEnoughData=NOTHING)
        while True:
            batch = [self.done.get()]
            while not self.done.empty() and len(batch) < BATCH:
                batch.append(self.done.get())
            redis.sendall(pack("LPUSH", "done", *batch))
            while reader.gets() is NOTHING:
                reader.feed(redis.recv(65536))

    def run(self) -> None:
        for sock in self.sockets:
            threading.Thread(target=self.carry, args=(sock,), daemon=True).start()
        self.second = STORE.open_connection()
        threading.Thread(target=self.acknowledge, args=(self.second.socket,), daemon=True).start()
        reader = hiredis.Reader(notEnoughData=NOTHING)
        command = pack("RPOP", "wait", BATCH)
        while not self.ended:
            self.redis.sendall(command)
            while (reply := reader.gets()) is NOTHING:
                reader.feed(self.redis.recv(65536))
            if isinstance(reply, list):
                for task in reply:
                    self.room.acquire()
                    self.tasks.put(task)
            command = pack("RPOP", "wait", BATCH)
            if reply is None:
                command = pack("BLMOVE", "wait", "wait", "RIGHT", "RIGHT", "0.2")


NOTHING = object()
STORE = None  # type: ignore[assignment]


def measure(
    make: Callable[[RawConnection, list[socket.socket]], threading.Thread],
) -> tuple[float, float]:
    """(tasks per second, median milliseconds of one)"""
    redis = STORE.redis
    redis.flushall()
    task = os.urandom(FRAME)
    redis.lpush("wait", *(task for _ in range(TASKS)))
    with echoes() as sockets:
        loop = make(STORE.open_connection(timeout=None), sockets)
        started = time.perf_counter()
        loop.start()
        while redis.llen("done") < TASKS:
            time.sleep(0.001)
        rate = TASKS / (time.perf_counter() - started)
        times = []
        for _ in range(TRIALS):
            time.sleep(0.002)
            redis.delete("done")
            began = time.perf_counter()
            redis.lpush("wait", task)
            redis.blmove("done", "seen", 5)
            times.append(time.perf_counter() - began)
        loop.ended = True  # type: ignore[attr-defined]
        if not isinstance(loop, Threads):
            loop.join()
    return rate, statistics.median(times) * 1000


def main() -> None:
    global STORE
    with tempfile.TemporaryDirectory() as directory:
        STORE = connect(f"embedded://{directory}")
        found: dict[str, list[tuple[float, float]]] = {}
        for _ in range(ROUNDS):
            for kind in (Selector, Asyncio, Threads):
                found.setdefault(kind.__name__, []).append(measure(kind))
        print(f"{'':10}  tasks/s (min..max)          one task, ms (min..max)")
        for name, figures in found.items():
            rates, times = sorted(f[0] for f in figures), sorted(f[1] for f in figures)
            print(
                f"{name:10}  {statistics.median(rates):7,.0f} ({rates[0]:,.0f}..{rates[-1]:,.0f})"
                f"   {statistics.median(times):.3f} ({times[0]:.3f}..{times[-1]:.3f})"
            )
        stop_server(Path(directory))


if __name__ == "__main__":
    main()
