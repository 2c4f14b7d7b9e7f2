"""J: the cost of an idle worker."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from bench import TEXT, Bench, NotHere, noop


def monitored(url: str, seconds: float) -> tuple[int, int]:
    """Return the number of commands sent by clients, and of those run inside scripts."""
    place = urlsplit(url)
    if place.scheme != "redis" or place.password:
        raise NotHere("it needs a redis:// URL without a password")
    sent = inside = 0
    limit = time.monotonic() + seconds
    with socket.create_connection((place.hostname, place.port or 6379)) as link:
        link.sendall(b"MONITOR\r\n")
        link.settimeout(0.05)
        held = b""
        while time.monotonic() < limit:
            try:
                held += link.recv(65_536)
            except TimeoutError:
                continue
            *lines, held = held.split(b"\r\n")
            for line in lines:
                inside += b" lua] " in line
                sent += b" lua] " not in line and line != b"+OK"
    return sent, inside


def idle(bench: Bench) -> dict[str, float]:
    """J: commands a second, and the share of a core that all its processes use."""
    seconds = 2.0 if bench.quick else 20.0
    with bench.client() as q, bench.worker() as worker:
        q.map(noop, range(20), [TEXT] * 20).results(60)
        q.close()
        time.sleep(0.2 if bench.quick else 2.0)
        assert worker.pid is not None
        pids = [worker.pid, *worker.executor_pids()]
        before = cpu_seconds(pids)
        sent, inside = monitored(bench.url, seconds)
        used = cpu_seconds(pids) - before
    return {
        "commands/s": sent / seconds,
        "commands in scripts/s": inside / seconds,
        "% of a core": used / seconds * 100,
    }


def cpu_seconds(pids: list[int]) -> float:
    """CPU time that these processes have used, in nanoseconds where the system counts these.

    The times that psutil reads are counted in ticks, of 10 ms mostly.
    """
    try:
        return sum(_nanoseconds(pid) for pid in pids) / 1e9
    except OSError:
        times = [psutil.Process(pid).cpu_times() for pid in pids]
        return sum(each.user + each.system for each in times)


def _nanoseconds(pid: int) -> int:
    """CPU time of the threads of a process that have not ended."""
    threads = os.listdir(f"/proc/{pid}/task")
    paths = [Path(f"/proc/{pid}/task/{thread}/schedstat") for thread in threads]
    return sum(int(path.read_text().split()[0]) for path in paths)
