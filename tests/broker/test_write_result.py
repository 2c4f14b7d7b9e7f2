"""write_result: the result so far of a running task."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, load
from transitions import FENCE, NOW, WHO, active, failure, fetched, kept

from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.lifecycle import write_result


def test_the_holder_writes_and_writes_again(broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a"), active("b")))
    for result in (b"one", b"\x00two"):
        assert broker.run(write_result("q", "a", FENCE, result)) is True
        assert dump(redis) == fetched(active("a", {"result": result}), active("b"))


@pytest.mark.parametrize("fence", ["Tother", FENCE[:-1], "T", "S2000000030.124"])
def test_who_does_not_hold_the_task_changes_nothing(broker: Any, redis: Any, fence: str) -> None:
    load(redis, fetched(active("a")))
    before = dump(redis)
    assert broker.run(write_result("q", "a", fence, b"r")) is False
    assert dump(redis) == before


@pytest.mark.parametrize("state", ["pending", "retry", "completed", "archived"])
def test_a_task_that_does_not_run_is_left_alone(broker: Any, redis: Any, state: str) -> None:
    given: Any = {"t:a": active("a") | {"state": state}}
    given[state] = ["a"] if state == "pending" else Zset(a=NOW)
    load(redis, given)
    before = dump(redis)
    assert broker.run(write_result("q", "a", FENCE, b"r")) is False
    assert dump(redis) == before


def test_a_task_that_is_gone_does_not_come_back(broker: Any, redis: Any) -> None:
    assert broker.run(write_result("q", "a", FENCE, b"r")) is False
    assert dump(redis) == {}


def test_it_stays_with_a_failure_and_goes_with_a_success(broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a"), active("b"), active("c")))
    for task_id in "abc":
        broker.run(write_result("q", task_id, FENCE, b"part"))
    broker.run(failure_commands.retry("q", failure("a"), b"\x1a\x01a", NOW_MS, NOW_MS, WHO))
    broker.run(failure_commands.archive("q", failure("b"), b"\x1a\x01b", NOW_MS, WHO))
    broker.run(lifecycle.complete("q", [kept("c", result=b"whole")], NOW_MS, WHO))
    content = dump(redis)
    assert [content[f"t:{i}"]["result"] for i in "abc"] == [b"part", b"part", b"whole"]
