"""Wait until workers serve a queue."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from nbqueue.broker.broker import Broker
from nbqueue.checks import LARGEST_COUNT, is_whole
from nbqueue.client.futures.waits import WaitTimeout, seconds_of
from nbqueue.client.live.display import interrupt_explained
from nbqueue.client.obstacles.obstacle import advice, in_short
from nbqueue.client.obstacles.store_facts import TAKES, FactReader
from nbqueue.client.obstacles.wait_notices import NOTICE_SECONDS, write_notice
from nbqueue.durations import Duration
from nbqueue.errors import StoreError, UsageError
from nbqueue.printable import shown
from nbqueue.wire.keys import check_queue_name, queue_keys

if TYPE_CHECKING:
    from nbqueue.client.session import Session

_LOOK_SECONDS = 1.0
"""Programs in Go announce no worker, and a worker of nbqueue only when it has begun to serve."""
_RECORD_SECONDS = 0.05
"""A worker announces itself a moment before its record is in the store."""


def wait_for_workers(session: Session, n: int, timeout: Duration | None, queue: str) -> int:
    """Wait until ``n`` workers serve ``queue``; see `Client.wait_for_workers`."""
    session.check_open()
    check_queue_name(queue)
    if not is_whole(n, 1, LARGEST_COUNT):
        raise UsageError(f"n={shown(n)} must be a whole number, 1 or more")
    seconds = seconds_of(timeout)
    until = float("inf") if seconds is None else time.monotonic() + seconds
    notice_at = time.monotonic() + NOTICE_SECONDS
    arrived = threading.Event()
    session.wake_on_close(arrived)

    def on_message(broker: Broker, data: bytes | None) -> None:
        if data is None or data.startswith(b"neighbour "):
            arrived.set()

    channel = queue_keys(queue).wake
    reader = FactReader(session.broker)
    session.listener.subscribe(channel, on_message)
    try:
        pause = _LOOK_SECONDS
        while True:
            count = _count(session, reader, queue)
            now = time.monotonic()
            if count >= n:
                return count
            if now >= until:
                raise _too_few(session, count, n, queue)
            if now >= notice_at:
                notice_at = float("inf")
                write_notice(
                    f"waits for {_workers(n)} of queue {shown(queue)}{_why(session, queue)}"
                )
            with interrupt_explained(_AwaitedWorkers(n, queue)):
                was_announced = arrived.wait(min(pause, until - now))
            arrived.clear()
            pause = _RECORD_SECONDS if was_announced else _LOOK_SECONDS
    finally:
        session.listener.unsubscribe(channel, on_message)


class _AwaitedWorkers(NamedTuple):
    """Workers that are waited for."""

    n: int
    queue: str

    def _goes_on(self) -> str:
        return (
            f"nothing else changed: q.wait_for_workers({self.n}, queue={self.queue!r}) waits again"
        )


def _count(session: Session, reader: FactReader, queue: str) -> int:
    """Return how many workers serve a queue now. Raises `StoreError` if the client is closed."""
    try:
        if session.is_open:
            workers = reader.read({queue: ()}).queues[queue].workers
            return sum(worker.status in TAKES for worker in workers)
    except StoreError:
        if session.is_open:
            raise
    raise StoreError(
        f"the client was closed while workers of queue {shown(queue)} were waited for: "
        f"nbqueue.connect().wait_for_workers(queue={queue!r}) waits anew"
    )


def _too_few(session: Session, count: int, n: int, queue: str) -> WaitTimeout:
    serve = "serves" if count == 1 else "serve"
    return WaitTimeout(
        f"{_workers(count)} of {n} {serve} queue {shown(queue)} at "
        f"{session.store.url.place}{_why(session, queue)}"
    )


def _why(session: Session, queue: str) -> str:
    found = session.obstacles.look({queue: ()})
    return f" ({in_short(found)}){advice(found)}" if found else ""


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count or 'no'} workers"
