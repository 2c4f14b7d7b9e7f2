"""Single tasks are handed to an idle worker, and none is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

OFFERS = "nbqueue:{default}:offers"


def add(a: int, b: int = 1) -> int:
    return a + b


def wait_for_file(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.01)
    return "done"


@contextlib.contextmanager
def handed(lab: Any) -> Iterator[list[bytes]]:
    """Collect the messages to workers meanwhile, each slightly later than the workers."""
    found: list[bytes] = []
    with lab.redis.pubsub(ignore_subscribe_messages=True) as heard:
        heard.psubscribe("nbqueue:*:hand:*")
        heard.get_message(timeout=5)
        yield found
        while (message := heard.get_message(timeout=0.05)) is not None:
            found.append(message["data"])


def make_idle(lab: Any, count: int, **options: Any) -> None:
    """Run a task, and wait until its worker offers to take more."""
    lab.value(lab.submit(add, 1, **options))
    lab.wait_until(lambda: lab.redis.llen(OFFERS) == count)


def test_a_task_that_follows_another_is_handed_over(lab: Any) -> None:
    with lab.worker():
        make_idle(lab, 2)
        with handed(lab) as told:
            task_id = lab.submit(add, 5)
            assert lab.value(task_id) == 6
        assert [task_id.encode() in data for data in told] == [True]
        assert lab.events("enqueued", task_id) == lab.events("started", task_id) == 1
        assert lab.events("completed", task_id) == 1
        [attempt] = lab.attempts(task_id)
        assert int(attempt["waited"]) < 1_000
        # It offers no more than it can run, and nothing once no client needs it.
        lab.wait_until(lambda: lab.redis.llen(OFFERS) == 2)
        lab.wait_until(lambda: not lab.redis.exists(OFFERS))
        assert lab.value(lab.submit(add, 6)) == 7


def test_a_busy_worker_takes_back_what_it_offered(lab: Any, tmp_path: Any) -> None:
    with lab.worker(concurrency=1):
        make_idle(lab, 1)
        ids = lab.submit_many(wait_for_file, [(str(tmp_path / "go"),)] * 2)
        lab.wait_until(lambda: lab.length("active") == 1)
        lab.wait_until(lambda: not lab.redis.exists(OFFERS))
        with handed(lab) as told:
            ids.append(lab.submit(add, 1))
        assert told == []
        (tmp_path / "go").touch()
        lab.wait_for_all(ids)


def test_nothing_is_lost_when_the_worker_ends(lab: Any) -> None:
    for number in range(3):
        with lab.worker() as worker:
            make_idle(lab, 2)
            ids = [lab.submit(add, number)]
            worker.signal(signal.SIGTERM)
            ids += [lab.submit(add, number) for _ in range(5)]
            assert worker.wait() == 0
            assert lab.length("active") == 0
            # They ran, or wait for another worker; none is with this one.
            assert {lab.state(each) for each in ids} <= {"completed", "pending"}
    with lab.worker():
        lab.wait_until(lambda: lab.length("pending") == lab.length("active") == 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_a_dead_worker_was_handed_runs_elsewhere(lab: Any, number: int) -> None:
    with lab.worker(lease=2) as first:
        make_idle(lab, 2)
        first.signal(number)
        ids = [lab.submit(add, each, retry=3) for each in range(4)]
        with lab.worker(lease=2):
            lab.wait_for_all(ids)
    assert [lab.value(each) for each in ids] == [1, 2, 3, 4]


def test_nobody_else_hands_anything_to_a_worker(lab: Any) -> None:
    with lab.worker() as worker:
        make_idle(lab, 2)
        with handed(lab) as told:
            task_id = lab.submit(add, 1)
            assert lab.value(task_id) == 2
        [channel] = lab.redis.pubsub_channels("nbqueue:*:hand:*")
        for data in (told[0], b"t 1 1 a/b\nxM", b"t 1 1 default\nxM", b""):
            lab.redis.publish(channel, data)
        lab.wait_until(lambda: "did not offer to take" in worker.log())
        assert lab.value(lab.submit(add, 2)) == 3
        assert len(lab.attempts(task_id)) == lab.events("started", task_id) == 1


def test_a_lost_connection_ends_offers(lab: Any) -> None:
    with lab.worker():
        make_idle(lab, 2)
        with handed(lab) as told:
            lab.redis.client_kill_filter(_type="pubsub", skipme=False)
            ids = [lab.submit(add, 1), lab.submit(add, 2)]
        assert [lab.value(each) for each in ids] == [2, 3]
        assert told == []
