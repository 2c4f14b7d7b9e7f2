"""cancel: a task that is not running is archived, and never runs."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, encoded, load, task
from transitions import LEASE_MS, NOW, active, events, fetched, mark

from nbqueue.broker.commands import failure, inspect, lifecycle, maintenance
from nbqueue.broker.commands.inspect import ToRun
from nbqueue.transport.script_call import Command

CANCELLED = {"error_msg": "cancelled", "last_failed_at": NOW}


def cancel_large(expected: bytes | None = None) -> Command[str]:
    expected = encoded("a") if expected is None else expected
    msg = failure.failed_message(expected, "cancelled", NOW_MS, counts=False)
    return maintenance.cancel("q", "a", expected, msg, b"E", NOW_MS)


def cancel_many() -> Command[str]:
    command: Any = inspect.cancel_tasks("q", ["a"], [b"E"], "cancelled", NOW_MS)
    read = command.read
    command.read = lambda reply: read(reply).refused.get(0, "CANCELLED")
    return command


@pytest.fixture(params=[cancel_large, cancel_many])
def cancel(request: pytest.FixtureRequest) -> Any:
    return request.param


OTHERS: dict[str, Any] = {
    "t:b": task("b", "pending", {"pending_since": 1}),
    "t:c": task("c", "scheduled"),
    "t:d": task("d", "retry"),
    "t:e": task("e", "archived"),
}
SETS: dict[str, Any] = {
    "pending": ["b"],
    "scheduled": Zset(c=NOW + 9),
    "retry": Zset(d=NOW + 9),
    "archived": Zset(e=NOW - 9),
}


@pytest.mark.parametrize("state", ["pending", "scheduled", "retry"])
def test_a_task_that_is_not_running_is_archived(
    cancel: Any, broker: Any, redis: Any, state: str
) -> None:
    home = SETS[state]
    with_it = ["a", *home] if state == "pending" else Zset({**home, "a": NOW + 5})
    load(redis, {**OTHERS, **SETS, state: with_it, "t:a": task("a", state)})
    assert broker.run(cancel()) == "CANCELLED"
    then = {
        **OTHERS,
        **SETS,
        "archived": Zset(e=NOW - 9, a=NOW),
        "t:a": task(
            "a", "archived", {"nbq:error": b"E", "nbq:failed": mark(**CANCELLED)}, **CANCELLED
        ),
        **events(("archived", "a")),
    }
    assert dump(redis) == then
    assert broker.run(cancel()) == "archived"
    assert dump(redis) == then


@pytest.mark.parametrize("others", [{}, {"b": NOW}])
def test_a_task_that_waits_in_its_group_is_archived(
    cancel: Any, broker: Any, redis: Any, others: dict[str, int]
) -> None:
    rest = {f"t:{i}": task(i, "aggregating", {"group": "g"}) for i in others}
    waiting = {"g:g": Zset({**others, "a": NOW}), "groups": {"g"}}
    load(redis, {**waiting, **rest, "t:a": task("a", "aggregating", {"group": "g"})})
    assert broker.run(cancel()) == "CANCELLED"
    assert dump(redis) == {
        **({"g:g": Zset(others), "groups": {"g"}} if others else {}),
        **rest,
        "archived": Zset(a=NOW),
        "t:a": task(
            "a",
            "archived",
            {"group": "g", "nbq:error": b"E", "nbq:failed": mark(**CANCELLED)},
            **CANCELLED,
        ),
        **events(("archived", "a")),
    }


@pytest.mark.parametrize(
    ("state", "home"),
    [
        ("completed", {"completed": Zset(a=NOW + 9)}),
        ("archived", {"archived": Zset(a=NOW)}),
        # It was taken out of its group, to be aggregated with the others.
        ("aggregating", {"g:g:1": Zset(a=NOW), "aggregation_sets": Zset({"asynq:{q}:g:g:1": NOW})}),
    ],
)
def test_a_task_in_another_state_is_left_as_it_is(
    cancel: Any, broker: Any, redis: Any, state: str, home: Any
) -> None:
    load(redis, {**home, "t:a": task("a", state, {"group": "g"})})
    before = dump(redis)
    answer = broker.run(cancel())
    assert answer == state or (state, answer) == ("aggregating", "MISPLACED")
    assert dump(redis) == before


def test_one_in_a_group_leaves_it(cancel: Any, broker: Any, redis: Any) -> None:
    waiting = task("a", "aggregating", {"group": "g"})
    load(redis, {"g:g": Zset(a=NOW, b=NOW), "groups": {"g"}, "t:a": waiting,
                 "t:b": task("b", "aggregating", {"group": "g"})})  # fmt: skip
    assert broker.run(cancel()) == "CANCELLED"
    assert dump(redis) == {
        "g:g": Zset(b=NOW),
        "groups": {"g"},
        "t:b": task("b", "aggregating", {"group": "g"}),
        "archived": Zset(a=NOW),
        "t:a": task(
            "a",
            "archived",
            {"group": "g", "nbq:error": b"E", "nbq:failed": mark(**CANCELLED)},
            **CANCELLED,
        ),
        **events(("archived", "a")),
    }


def test_the_archive_is_trimmed_to_what_the_queue_says(
    cancel: Any, broker: Any, redis: Any
) -> None:
    full = {f"t:x{i}": task(f"x{i}", "archived") for i in range(3)}
    load(redis, {**full, "archived": Zset(x0=NOW - 3, x1=NOW - 2, x2=NOW - 1), "pending": ["a"],
                 "t:a": task("a", "pending"), "own:settings": {"archive_max": "2"}})  # fmt: skip
    assert broker.run(cancel()) == "CANCELLED"
    assert dump(redis) == {
        "archived": Zset(x1=NOW - 2, x2=NOW - 1),
        "t:x1": full["t:x1"],
        "t:x2": full["t:x2"],
        "own:settings": {"archive_max": "2"},
        "own:trimmed": "2",
        **events(("archived", "a"), ("trimmed", "a x0")),
    }


def test_cancelled_tasks_leave_a_full_archive_before_those_that_failed(
    broker: Any, redis: Any
) -> None:
    failed = {f"t:x{i}": task(f"x{i}", "archived") for i in range(2)}
    waiting = {f"t:p{i}": task(f"p{i}", "pending") for i in range(5)}
    load(redis, {**failed, **waiting, "archived": Zset(x0=NOW - 3, x1=NOW - 2),
                 "pending": [f"p{i}" for i in range(5)],
                 "own:settings": {"archive_max": "4"}})  # fmt: skip
    for ids in (["p0", "p1", "p2"], ["p3", "p4"]):
        broker.run(inspect.cancel_tasks("q", ids, [b"E"] * len(ids), "cancelled", NOW_MS))
    assert dump(redis)["archived"] == Zset(x0=NOW - 3, x1=NOW - 2, p3=NOW, p4=NOW)
    assert dump(redis)["own:trimmed"] == "3"
    # One that was run again and failed is a failure like others.
    broker.run(inspect.run("q", [ToRun("p3")], NOW_MS))
    broker.run(inspect.archive_by_hand("q", ["p3"], NOW_MS + 2000))
    load(redis, {"pending": ["y"], "t:y": task("y", "pending")})
    broker.run(inspect.archive_by_hand("q", ["y"], NOW_MS + 3000))
    then = Zset(x0=NOW - 3, x1=NOW - 2, p3=NOW + 2, y=NOW + 3)
    assert dump(redis)["archived"] == then


def test_a_running_task_is_left_to_its_worker(cancel: Any, broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a")))
    before = dump(redis)
    assert broker.run(cancel()) == "active"
    assert dump(redis) == before


def test_there_is_nothing_to_cancel(cancel: Any, broker: Any, redis: Any) -> None:
    assert broker.run(cancel()) == "MISSING"
    assert dump(redis) == {}


def test_a_message_that_changed_meanwhile_is_not_overwritten(
    cancel: Any, broker: Any, redis: Any
) -> None:
    load(redis, {"retry": Zset(a=NOW), "t:a": task("a", "retry", retried=1)})
    before = dump(redis)
    assert broker.run(cancel_large()) == "CHANGED"
    assert dump(redis) == before


def test_a_cancelled_task_is_never_fetched(cancel: Any, broker: Any, redis: Any) -> None:
    load(redis, {"pending": ["a"], "t:a": task("a", "pending", {"pending_since": 1})})
    broker.run(cancel())
    assert broker.run(lifecycle.fetch("q", 1, NOW_MS, LEASE_MS, "t")) == []
