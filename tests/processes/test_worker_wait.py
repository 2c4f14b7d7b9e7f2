"""A worker that starts before its store does."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from waits import wait_until

import nbqueue
from nbqueue.worker.worker import Worker, WorkerDidNotStart


def run_worker(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nbqueue.cli.main", "worker", "-c", "1", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("unix:///nowhere/redis.sock", "cannot be reached"),
        ("redis://:secret@127.0.0.1:1/0", "cannot be reached"),
        ("redis://no-such-host.invalid:6379", "no-such-host.invalid"),
    ],
)
def test_a_worker_waits_for_its_store_and_ends_with_the_error(url: str, said: str) -> None:
    begun = time.monotonic()
    process = run_worker("--url", url, "--wait", "2s")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert time.monotonic() - begun >= 2
    waits = [line for line in errors.splitlines() if "waits for its store" in line]
    assert len(waits) == 1, errors
    assert "secret" not in errors
    assert said in errors.splitlines()[-1]


def test_a_worker_that_is_not_to_wait_fails_at_once() -> None:
    process = run_worker("--url", "unix:///nowhere/redis.sock", "--wait", "0")
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "waits for" not in errors


def test_a_worker_that_was_started_first_serves_once_its_store_is_there(lab: Any) -> None:
    log = lab.folder / "early.log"

    def start_once_it_waits() -> None:
        wait_until(lambda: log.exists() and "waits for its store" in log.read_text())
        lab.server.start()

    lab.server.kill()
    back = threading.Thread(target=start_once_it_waits)
    back.start()
    with lab.worker(wait=30, log=log) as worker:
        assert worker.log().count("waits for its store") == 1
        assert lab.value(lab.submit(max, 1, 2)) == 2
    back.join()


def test_a_started_worker_says_why_it_did_not_start(tmp_path: Path) -> None:
    worker = Worker(f"unix://{tmp_path}/nobody", wait=1, concurrency=1)
    with pytest.raises(WorkerDidNotStart, match="cannot be reached"):
        worker.start()


@pytest.mark.parametrize("wait", [-1, "soon"])
def test_a_wait_that_cannot_be_is_refused(wait: Any) -> None:
    with pytest.raises(nbqueue.UsageError, match="wait="):
        Worker(wait=wait)


def test_a_wrong_password_is_not_waited_for(lab: Any) -> None:
    url = lab.url.replace("unix://", "unix://:wrong@")
    lab.redis.config_set("requirepass", "right")
    begun = time.monotonic()
    with pytest.raises(WorkerDidNotStart, match="password"):
        Worker(url, wait=20, concurrency=1).start()
    assert time.monotonic() - begun < 15
