"""Only the present holder of a lease can change its task, whatever happened in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asynq_peer import AsynqPeer
from keyspace import NOW_MS, dump, encoded
from transitions import LEASE_MS, WHO, ended, failure, kept

from nbqueue.broker.commands import enqueue, lifecycle, maintenance
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands.lifecycle import token_fence
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.script_call import Command

FIRST, SECOND = "first:1", "second:1"
AFTER_MS = LEASE_MS + 1
AGAIN_MS = LEASE_MS + 30_000

ACTIONS: dict[str, Callable[[str], Command[Any]]] = {
    "complete": lambda f: lifecycle.complete("q", [ended("a", fence=f)], AFTER_MS, WHO),
    "complete and keep": lambda f: lifecycle.complete("q", [kept("a", fence=f)], AFTER_MS, WHO),
    "retry": lambda f: failure_commands.retry(
        "q", failure("a", fence=f), encoded("a"), AFTER_MS, AFTER_MS, WHO
    ),
    "archive": lambda f: failure_commands.archive(
        "q", failure("a", fence=f), encoded("a"), AFTER_MS, WHO
    ),
    "requeue": lambda f: failure_commands.requeue(
        "q", failure("a", fence=f), "lost", AFTER_MS, WHO
    ),
    "extend": lambda f: lifecycle.extend("q", [("a", f)], AGAIN_MS + 99_000),
}
REFUSED: tuple[Any, ...] = ([0], False)


@pytest.fixture
def a_task(broker: Any, redis: Any) -> None:
    """A task, fetched by the first worker, which then falls asleep."""
    broker.run(enqueue.enqueue("q", [NewTask("a", encoded("a"))], NOW_MS))
    assert broker.run(lifecycle.fetch("q", 1, NOW_MS, LEASE_MS, FIRST))


def recover(broker: Any) -> None:
    [found] = broker.run(maintenance.expired("q", AFTER_MS))
    again = failure("a", fence=found.fence)
    assert broker.run(failure_commands.requeue("q", again, "lost", AFTER_MS, WHO)) is True


@pytest.fixture(params=["recovered", "fetched again", "dequeued by go", "gone", "completed"])
def later(request: pytest.FixtureRequest, a_task: None, broker: Any, redis: Any) -> str:
    """The state of the task after the first worker slept."""
    recover(broker)
    if request.param == "fetched again":
        assert broker.run(lifecycle.fetch("q", 1, AFTER_MS, AGAIN_MS, SECOND))
    elif request.param == "dequeued by go":
        assert AsynqPeer(redis).dequeue(AFTER_MS // 1000) == encoded("a")
        assert dump(redis)["t:a"]["nbq:lease"].startswith(FIRST)  # the stale token is there
    elif request.param in ("gone", "completed"):
        assert broker.run(lifecycle.fetch("q", 1, AFTER_MS, AGAIN_MS, SECOND))
        make = ended if request.param == "gone" else kept
        done = make("a", fence=token_fence(SECOND))
        assert broker.run(lifecycle.complete("q", [done], AFTER_MS, WHO)) == []
    return str(request.param)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_worker_that_was_paused_past_its_lease_changes_nothing(
    broker: Any, redis: Any, later: str, action: str
) -> None:
    before = dump(redis)
    assert broker.run(ACTIONS[action](token_fence(FIRST))) in REFUSED
    assert dump(redis) == before, later


@pytest.mark.parametrize("action", ACTIONS)
def test_who_found_an_expired_lease_changes_nothing_once_it_was_extended(
    broker: Any, redis: Any, a_task: None, action: str
) -> None:
    [found] = broker.run(maintenance.expired("q", AFTER_MS))
    assert broker.run(lifecycle.extend("q", [("a", token_fence(FIRST))], AGAIN_MS)) == []
    before = dump(redis)
    assert broker.run(ACTIONS[action](found.fence)) in REFUSED
    assert dump(redis) == before


@pytest.mark.parametrize("action", ACTIONS)
def test_of_two_who_found_an_expired_lease_one_acts(
    broker: Any, redis: Any, a_task: None, action: str
) -> None:
    [one], [two] = (broker.run(maintenance.expired("q", AFTER_MS)) for _ in range(2))
    assert broker.run(ACTIONS[action](one.fence)) not in REFUSED
    before = dump(redis)
    assert broker.run(ACTIONS[action](two.fence)) in REFUSED
    assert dump(redis) == before


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("fence", ["", "T", "S", "Tfirst:", "Tfirst:1|", "first:1", "S0", "Tfirst"])
def test_half_a_token_is_none(
    broker: Any, redis: Any, a_task: None, action: str, fence: str
) -> None:
    before = dump(redis)
    assert broker.run(ACTIONS[action](fence)) in REFUSED
    assert dump(redis) == before


@pytest.mark.parametrize("action", ACTIONS)
def test_the_holder_can(broker: Any, redis: Any, a_task: None, action: str) -> None:
    assert broker.run(ACTIONS[action](token_fence(FIRST))) not in REFUSED


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize("state", ["pending", "retry", "completed"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_lease_left_behind_gives_no_right_to_a_task_that_is_not_active(
    broker: Any, redis: Any, a_task: None, action: str, state: str
) -> None:
    redis.hset("asynq:{q}:t:a", "state", state)
    before = dump(redis)
    assert broker.run(ACTIONS[action](token_fence(FIRST))) in REFUSED
    assert dump(redis) == before


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_left_of_a_task_without_its_message_cannot_be_finished(
    broker: Any, redis: Any, a_task: None, action: str
) -> None:
    redis.hdel("asynq:{q}:t:a", "msg")
    before = dump(redis)
    assert broker.run(ACTIONS[action](token_fence(FIRST))) in REFUSED
    assert dump(redis) == before


def test_a_lease_of_a_program_in_go_is_recovered_by_its_score(broker: Any, redis: Any) -> None:
    peer = AsynqPeer(redis)
    peer.enqueue("a", encoded("a"), NOW_MS * 1_000_000)
    peer.dequeue(NOW_MS // 1000)
    [found] = broker.run(maintenance.expired("q", AFTER_MS + 31_000))
    again = failure("a", fence=found.fence)
    assert broker.run(failure_commands.requeue("q", again, "lost", AFTER_MS, WHO)) is True
    assert dump(redis)["pending"] == ["a"]
