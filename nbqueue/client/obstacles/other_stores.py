"""Find workers of the same user that serve a queue at another embedded store."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

from nbqueue.store.running_stores import ask, running_stores
from nbqueue.store.url import StoreURL
from nbqueue.transport.resp import ProtocolError, ReplyError
from nbqueue.wire.keys import SERVERS
from nbqueue.wire.server_info import ACTIVE, WorkerRecord, decode_worker, read_worker_id


class OtherWorker(NamedTuple):
    """A worker at another store, whose URL is ``place``; ``folder`` is where it was started."""

    pid: int
    place: str
    folder: str


def find_elsewhere(store: StoreURL, queues: Iterable[str]) -> dict[str, tuple[OtherWorker, ...]]:
    """Return the workers that serve each of ``queues`` at other stores than ``store``.

    Looks at the running embedded stores of this user, and takes some milliseconds.
    """
    found: dict[str, tuple[OtherWorker, ...]] = dict.fromkeys(queues, ())
    for url, path in running_stores():
        if url == store:
            continue
        for record in _workers(path):
            other: OtherWorker | None = None
            for queue in found:
                if queue in record.queues:
                    other = other or _other(record, url)
                    found[queue] += (other,)
    return found


def _workers(path: Path) -> list[WorkerRecord]:
    """Return the workers that take tasks at the store with this socket."""
    try:
        [(now_s, _)] = ask(path, [("TIME",)])
        until = f"({now_s.decode()}"
        [alive] = ask(path, [("ZRANGEBYSCORE", SERVERS, until, "+inf", "LIMIT", "0", "50")])
        if not alive:
            return []
        bodies = ask(path, [("GET", key.decode()) for key in alive])
    except (OSError, ValueError, TypeError, AttributeError, ReplyError, ProtocolError):
        return []
    records = (decode_worker(body) for body in bodies if isinstance(body, bytes))
    return [record for record in records if record is not None and record.status == ACTIVE]


def _other(record: WorkerRecord, url: StoreURL) -> OtherWorker:
    name = read_worker_id(record.worker_id)
    pid, folder = 0, ""
    if name is not None:
        pid = name.pid
        if name.host == socket.gethostname():
            try:
                folder = psutil.Process(name.pid).cwd()
            except (psutil.Error, OSError):
                pass
    return OtherWorker(pid, url.place, folder)
