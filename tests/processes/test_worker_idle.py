"""An idle worker sends few commands to the store, and misses nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest
from asynq_peer import AsynqPeer

from nbqueue.wire.keys import SERVERS


def nothing() -> None:
    pass


def calls(lab: Any) -> int:
    """Return the number of commands the server has run, those within scripts too."""
    return sum(each["calls"] for each in lab.redis.info("commandstats").values())


def beat(lab: Any) -> float:
    """Return the time of the worker's last heartbeat; it is renewed every five seconds."""
    [(_, score)] = lab.redis.zrange(SERVERS, 0, -1, withscores=True)
    return float(score)


def wait_for_beats(lab: Any, count: int) -> int:
    """Wait for so many heartbeats; return the number of commands sent for that."""
    asked = 0
    for _ in range(count):
        before = beat(lab)

        def has_come(before: float = before) -> bool:
            nonlocal asked
            asked += 2
            return beat(lab) > before

        lab.wait_until(has_come)
    return asked


def wait_until_told(lab: Any) -> None:
    """Wait until the server has notified the worker of a change."""
    wait_for_beats(lab, 2)


@pytest.fixture(params=["told", "not told"])
def is_told(lab: Any, request: pytest.FixtureRequest) -> bool:
    """True if the server may notify the worker of changes."""
    if request.param != "told":
        lab.redis.execute_command("ACL", "SETUSER", "default", "-client")
    return bool(request.param == "told")


@pytest.mark.parametrize(
    "queues", [pytest.param(["default"], marks=pytest.mark.slow), ["a", "b", "c", "d"]]
)
def test_an_idle_worker_asks_little(lab: Any, queues: list[str]) -> None:
    with lab.worker(queues=queues):
        wait_until_told(lab)
        before = calls(lab)
        own = wait_for_beats(lab, 2)
        # Ten seconds, less the commands of asking: the first one, and those of the waits.
        assert calls(lab) - before - own < 60


@pytest.mark.slow
def test_what_a_program_in_go_schedules_begins_when_it_is_due(lab: Any, is_told: bool) -> None:
    with lab.worker():
        wait_until_told(lab)
        peer = AsynqPeer(lab.redis, "default")
        lab.value(lab.submit(nothing))  # the code of the others
        took = []
        for number in range(3):
            task_id = f"go-{number}"
            _, message = lab.call(nothing, task_id=task_id)
            due = int(lab.broker.clock.now()) + 2
            peer.schedule(task_id, message.SerializeToString(), due)
            lab.wait_for(task_id, "completed")
            took.append(lab.broker.clock.now() - due)
        # Once a second at most, and the machine may be slow.
        assert min(took) < 1.5


@pytest.mark.slow
def test_what_lies_active_without_a_lease_is_found(lab: Any, is_told: bool) -> None:
    with lab.worker():
        wait_until_told(lab)
        _, message = lab.call(nothing, task_id="orphan")
        key = "asynq:{default}:t:orphan"
        lab.redis.hset(key, mapping={"msg": message.SerializeToString(), "state": "active"})
        began = time.monotonic()
        lab.redis.lpush("asynq:{default}:active", "orphan")
        lab.wait_until(lambda: lab.redis.hget(key, "nbq:lost") == b"1", 10)
        assert time.monotonic() - began < 10


@pytest.mark.slow
def test_an_emptied_store_knows_its_worker_again(lab: Any) -> None:
    with lab.worker() as worker:
        wait_until_told(lab)
        lab.redis.flushall()
        lab.wait_until(lambda: lab.redis.exists(SERVERS))
        lab.wait_until(lambda: lab.redis.zrange("nbqueue:{default}:workers", 0, -1))
        peer = AsynqPeer(lab.redis, "default")
        lab.value(lab.submit(nothing))  # the code of the next
        _, message = lab.call(nothing, task_id="later")
        peer.schedule("later", message.SerializeToString(), int(lab.broker.clock.now()) + 1)
        lab.wait_for("later", "completed")
        assert "ERROR" not in worker.log()
