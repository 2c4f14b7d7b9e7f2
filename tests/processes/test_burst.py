"""Workers that end when nothing is left, and draining in this process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import nbqueue
from nbqueue import testing
from nbqueue.client.client import Client
from nbqueue.errors import HandlerNotFound
from nbqueue.wire.keys import queue_keys

KEY = "5b" * 32


def add(a: int, b: int = 1) -> int:
    return a + b


def flaky(path: str, failures: int) -> int:
    with open(path, "a") as file:
        file.write("x")
    tries = os.path.getsize(path)
    if tries <= failures:
        raise OSError(f"try {tries}")
    return tries


def fail_late_in_a_second(path: str) -> bool:
    """Fail, the first time, when nine tenths of a second are over."""
    if os.path.exists(path):
        return True
    open(path, "w").close()
    threading.Event().wait((0.9 - time.time()) % 1)
    raise OSError("no")


@pytest.fixture
def q(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NBQUEUE_KEY", KEY)
    client = nbqueue.connect(lab.server.url)
    yield client
    client.close()


def test_a_worker_in_a_burst_runs_what_is_there_and_ends(lab: Any, q: Any, tmp_path: Any) -> None:
    group = q.map(add, range(300))
    soon = q.options(delay=0.3).submit(add, 1)
    again = q.options(retry=2, retry_delay=0.05).submit(flaky, str(tmp_path / "f"), 2)
    later = q.options(delay="1h").submit(add, 1)
    q.options(queue="closed").submit(add, 1)
    lab.redis.set("asynq:{closed}:paused", "1")
    worker = lab.start_worker(burst=True, queues=["default", "closed"])
    assert worker.wait(40) == 0
    assert sum(group.results(20)) == sum(range(301))
    assert (soon.result(20), again.result(20)) == (2, 3)
    assert lab.state(later.id) == "scheduled"
    assert lab.length("pending", "closed") == 1
    assert lab.length("active") == 0


def test_a_burst_waits_for_what_is_due_soon_whatever_second_that_falls_into(
    lab: Any, q: Any, tmp_path: Any
) -> None:
    slow = nbqueue.Limit("slow", rate="4/s")
    again = q.options(retry=1, retry_delay=0.2).submit(fail_late_in_a_second, str(tmp_path / "f"))
    held = q.options(limit=slow).map(add, range(4))
    assert lab.start_worker(burst=True, concurrency=2).wait(40) == 0
    assert again.refresh().state == "completed"
    assert [future.refresh().state for future in held.futures] == ["completed"] * 4


def test_a_worker_in_a_burst_ends_at_once_where_there_is_nothing(lab: Any) -> None:
    assert lab.start_worker(burst=True).wait(30) == 0


def test_the_command_has_a_burst(lab: Any, q: Any) -> None:
    future = q.submit(add, 1)
    words = [sys.executable, "-m", "nbqueue.cli.main", "worker", "--burst", "--url", lab.server.url]
    done = subprocess.run(words, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert future.result(20) == 2


def about() -> list[Any]:
    task = nbqueue.current_task()
    assert task is not None
    return [task.id, task.attempt]


async def double(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


def test_draining_runs_all_that_is_due_here(client: Client, redis: Any, tmp_path: Any) -> None:
    group = client.map(add, range(5))
    failing = client.options(retry=1, retry_delay=0).submit(flaky, str(tmp_path / "f"), 5)
    seen, doubled = client.submit(about), client.submit(double, 4)
    later = client.options(delay="1h").submit(add, 1)
    assert testing.drain(client) == 5 + 2 + 2
    assert group.results(20) == [1, 2, 3, 4, 5]
    with pytest.raises(OSError, match="try 2"):
        failing.result(20)
    assert (seen.result(20), doubled.result(20)) == ([seen.id, 1], 8)
    assert later.refresh().state == "scheduled"
    assert testing.drain(client) == 0
    keys = queue_keys("default")
    assert (redis.llen(keys.pending), redis.llen(keys.active), redis.zcard(keys.lease)) == (0, 0, 0)
    assert redis.zrange(keys.scheduled, 0, -1) == [later.id.encode()]
    assert redis.zrange(keys.archived, 0, -1) == [failing.id.encode()]
    assert redis.zcard(keys.completed) == 7


def test_draining_runs_messages_by_the_handlers_of_a_worker_and_of_the_store(
    client: Client,
) -> None:
    worker = nbqueue.Worker()
    worker.handle("a", lambda task: task.json())
    client.serve("b", lambda task: [task.type])
    a, b = (client.enqueue(type, 7, retention=60) for type in "ab")
    other = client.enqueue("c", retry=0)
    assert testing.drain(client, worker=worker) == 3
    assert (a.result(20), b.result(20)) == (7, ["b"])
    with pytest.raises(HandlerNotFound):
        other.result(20)


def test_draining_keeps_what_a_task_reported(client: Client) -> None:
    def fail() -> None:
        nbqueue.report(result="half")
        raise KeyError

    future = client.submit(fail)
    assert testing.drain(client) == 1
    assert isinstance(future.exception(20), KeyError)
    assert future.reported() == "half"


def test_draining_can_be_limited(client: Client) -> None:
    first, *rest = client.map(add, range(3)).futures
    client.options(queue="other").submit(add, 1)
    assert testing.drain(client, ["default"], limit=1) == 1
    assert first.result(20) == 1
    assert testing.drain(client, ["default"]) == 2
    assert testing.drain(client) == 1
    assert [f.result(20) for f in rest] == [2, 3]


def test_an_interrupted_drain_gives_the_task_back(client: Client, redis: Any) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    future = client.submit(interrupt)
    with pytest.raises(KeyboardInterrupt):
        testing.drain(client)
    assert future.refresh().state == "pending"
    assert redis.lrange("asynq:{default}:pending", 0, -1) == [future.id.encode()]
