"""What a worker reports to systemd while it starts, serves, loses its store, and ends."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

KEY = "5b" * 32


class Manager:
    """A service manager: the receiving end of a worker's reports."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.path = path
        self.last: dict[str, str] = {}

    def read(self) -> bool:
        """Read what has arrived; return whether anything had."""
        ready, _, _ = select.select([self.socket], [], [], 0.05)
        if ready:
            text = self.socket.recv(65_536).decode()
            self.last = dict(line.split("=", 1) for line in text.splitlines())
        return bool(ready)

    def says(self, **states: str) -> Callable[[], bool]:
        """Return a condition: a report has these states, or values that contain these texts."""

        def is_said() -> bool:
            return self.read() and all(
                text in self.last.get(name, "absent") for name, text in states.items()
            )

        return is_said


def environment() -> list[str]:
    return sorted(name for name in os.environ if name.startswith(("NOTIFY", "WATCHDOG")))


def test_a_worker_reports_its_life_to_systemd(lab: Any, tmp_path: Path) -> None:
    manager = Manager(lab.server.folder / "notify")
    environ = {**os.environ, "NBQUEUE_KEY": KEY, "NBQUEUE_URL": lab.url}
    environ |= {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "300000"}
    command = [sys.executable, "-m", "nbqueue.cli.main", "worker", "-c", "1"]
    command += ["--shutdown-timeout", "20s"]
    with open(tmp_path / "log", "wb") as log:
        journal = os.fstat(log.fileno())
        environ["JOURNAL_STREAM"] = f"{journal.st_dev}:{journal.st_ino}"
        process = subprocess.Popen(command, env=environ, stderr=log, cwd=tmp_path)
    try:
        lab.wait_until(manager.says(STATUS="connects", EXTEND_TIMEOUT_USEC="75000000"))
        lab.wait_until(manager.says(READY="1", WATCHDOG="1"))
        assert lab.value(lab.submit(environment)) == []
        lab.wait_until(manager.says(READY="1", WATCHDOG="1", STATUS="runs 1 at once"))
        lab.server.kill()
        lab.wait_until(manager.says(READY="1", WATCHDOG="1", STATUS="the store is away"))
        process.send_signal(signal.SIGTERM)
        lab.wait_until(manager.says(STOPPING="1", EXTEND_TIMEOUT_USEC="40000000"))
    finally:
        process.kill()
        process.wait()
        manager.socket.close()
    log_lines = (tmp_path / "log").read_text().splitlines()
    assert any(line.startswith("<6>worker ready") for line in log_lines)
    assert any(line.startswith("<4>") for line in log_lines), "a warning that the store is away"
    assert not any("service manager" in line for line in log_lines)
