"""Schedules, from the client through real workers."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import nbqueue
from nbqueue.client.client import Client
from nbqueue.clock import from_ms, to_ms
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import (
    GO_ZERO_SECONDS,
    SchedulerEnqueueEvent,
    SchedulerEntry,
)

KEY = "5b" * 32
KEYS = queue_keys("default")
RECORD = "asynq:schedulers:{nbqueue:default}"


def mark(path: str, word: str = "x") -> str:
    # One write of a file opened to append: whole lines, whoever else writes.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (word + "\n").encode())
    os.close(descriptor)
    return word


def mark_id(path: str) -> None:
    task = nbqueue.current_task()
    assert task is not None
    mark(path, task.id)


def wait_for_file(path: str) -> None:
    import time

    while not os.path.exists(path):
        time.sleep(0.02)


@pytest.fixture
def q(lab: Any) -> Iterator[Client]:
    client = nbqueue.connect(lab.url, key=KEY)
    yield client
    client.close()


def set_due(lab: Any, schedule_id: str, due_ms: int) -> None:
    """As if nobody had fired it since then."""
    lab.redis.zadd(KEYS.schedule_due, {schedule_id: due_ms})


def outcomes(schedule: Any) -> Counter[str]:
    return Counter(each["outcome"] for each in schedule.history(1000))


def test_a_call_runs_whenever_it_is_due(lab: Any, q: Client) -> None:
    path = lab.mark_file("marks")
    with lab.worker():
        schedule = q.schedule(mark, "@every 1s", args=(path,), kwargs={"word": "w"}, id="tick")
        lab.wait_until(lambda: len(lab.marks("marks")) >= 3, 30)
        schedule.pause()
        last = schedule.last()
    assert set(lab.marks("marks")) == {"w"}
    history = [each for each in schedule.history() if each["outcome"] == "enqueued"]
    assert all((each["at"] - each["due"]).total_seconds() < 5 for each in history)
    due = [each["due"] for each in history]
    assert all(a - b == timedelta(seconds=1) for a, b in zip(due, due[1:], strict=False))
    assert last is not None
    assert last.id == history[0]["task_id"]
    assert schedule.prev_at == due[0]


def test_two_workers_fire_each_time_once_and_one_goes_on_alone(lab: Any, q: Client) -> None:
    path = lab.mark_file("marks")
    first, _second = lab.start_worker(), lab.start_worker()
    schedule = q.schedule(mark_id, "@every 1s", args=(path,))
    lab.wait_until(lambda: len(lab.marks("marks")) >= 3, 30)
    first.signal(signal.SIGKILL)
    before = len(lab.marks("marks"))
    lab.wait_until(lambda: len(lab.marks("marks")) >= before + 3, 30)
    schedule.remove()
    events = [e for e in lab.redis.xrange(KEYS.events) if e[1][b"event"] == b"enqueued"]
    ids = [e[1][b"ids"].decode() for e in events]
    times = [int(i[10:21], 16) for i in ids]
    assert len(set(times)) == len(times)
    assert times == list(range(times[0], times[-1] + 1, 1000))
