"""A script that cannot do all of its work does none of it.

Redis undoes nothing of a script that stops in the middle. So each looks first whether the keys are
what it takes them for, or takes back what it wrote; here one after the other is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, encoded, full_name, load, task, without_memory
from transitions import (
    DAY,
    FENCE,
    LEASE_MS,
    NOW,
    WHO,
    active,
    ended,
    failure,
    fetched,
    kept,
)

from nbqueue.broker.commands import aggregation, enqueue, inspect, lifecycle, maintenance
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands.aggregation import Aggregate, Ripeness, Set
from nbqueue.errors import StoreError
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.script_call import Command

NEW = NewTask("new", encoded("new"))
HELD = fetched(active("a"), active("b"))
WAITING = {"t:w": task("w", "pending", {"pending_since": 1}), "pending": ["w"]}
DUE = {"t:d": task("d", "scheduled"), "scheduled": Zset(d=NOW - 1)}
GROUPED = {"t:g": task("g", "scheduled", {"group": "g"}), "scheduled": Zset(g=NOW - 1, d=NOW - 1)}
MEMBERS = {"t:g": task("g", "aggregating", {"group": "g"}), "g:g": Zset(g=NOW - 9), "groups": {"g"}}
SET = Set("g", "s")
IN_SET = {
    "t:g": task("g", "aggregating", {"group": "g"}),
    "g:g:s": Zset(g=NOW - 9),
    "aggregation_sets": Zset({"asynq:{q}:g:g:s": NOW + 9}),
}
OVER = {"t:c": task("c", "completed"), "completed": Zset(c=NOW)}
COUNTERS = ("processed", f"processed:{DAY}")
BOTH = (*COUNTERS, "failed", f"failed:{DAY}")

CASES: dict[str, tuple[dict[str, Any], Callable[[], Command[Any]], tuple[str, ...]]] = {
    "enqueue": (
        {},
        lambda: enqueue.enqueue("q", [NEW], NOW_MS),
        ("pending", "own:events"),
    ),
    "enqueue where a worker offered": (
        {"own:offers": [f"{LEASE_MS} {LEASE_MS // 1000}.5 nbqueue:hand:w:1 t"]},
        lambda: enqueue.enqueue("q", [NEW], NOW_MS),
        ("pending", "own:events", "own:offers"),
    ),
    "enqueue with code": (
        {"own:code:01": "blob"},
        lambda: enqueue.enqueue("q", [NEW], NOW_MS, b"\x01"),
        ("pending", "own:events", "own:codes"),
    ),
    "schedule": (
        {},
        lambda: enqueue.schedule("q", [(NEW, NOW_MS)], NOW_MS),
        ("scheduled", "own:events"),
    ),
    "fetch": (
        WAITING,
        lambda: lifecycle.fetch("q", 9, NOW_MS, LEASE_MS, "t"),
        ("pending", "active", "lease", "own:events"),
    ),
    "complete": (
        HELD,
        lambda: lifecycle.complete("q", [ended("a"), kept("b")], NOW_MS, WHO),
        ("active", "lease", "completed", "own:events", "own:attempts", *COUNTERS),
    ),
    "retry": (
        HELD,
        lambda: failure_commands.retry("q", failure("a"), encoded("a"), NOW_MS, NOW_MS, WHO),
        ("active", "lease", "retry", "own:events", "own:attempts", *BOTH),
    ),
    "archive": (
        HELD,
        lambda: failure_commands.archive("q", failure("a"), encoded("a"), NOW_MS, WHO),
        ("active", "lease", "archived", "own:events", "own:attempts", *BOTH),
    ),
    "adopt": (
        {"active": ["o"], "t:o": task("o", "active")},
        lambda: maintenance.repair_leases("q", NOW_MS),
        ("active", "lease"),
    ),
    "requeue": (
        HELD,
        lambda: failure_commands.requeue("q", failure("a"), "lost", NOW_MS, WHO),
        ("active", "lease", "pending", "own:events", "own:attempts"),
    ),
    "extend": (
        HELD,
        lambda: lifecycle.extend("q", [("a", FENCE), ("b", FENCE)], LEASE_MS + 9_000),
        ("lease",),
    ),
    "expired": (
        {**HELD, "lease": Zset(a=NOW - 9.5, b=NOW - 9.5, gone=NOW - 9.5)},
        lambda: maintenance.expired("q", NOW_MS),
        ("lease", "active"),
    ),
    "forward": (
        {**DUE, **GROUPED, "retry": Zset(r=NOW - 1), "t:r": task("r", "retry")},
        lambda: maintenance.forward("q", NOW_MS),
        ("scheduled", "retry", "pending", "groups", "own:events", "g:g"),
    ),
    "add_to_group": (
        {},
        lambda: aggregation.add_to_group("q", "g", [NEW], NOW_MS),
        ("g:g", "groups", "own:events"),
    ),
    "aggregate": (
        MEMBERS,
        lambda: aggregation.form_set("q", SET, Ripeness(1_000), NOW_MS, NOW + 9),
        ("g:g", "g:g:s", "groups", "aggregation_sets"),
    ),
    "aggregated": (
        IN_SET,
        lambda: aggregation.finish_set("q", SET, Aggregate(NEW, None, "h"), NOW_MS),
        ("g:g:s", "aggregation_sets", "pending", "scheduled", "groups", "g:h", "own:events"),
    ),
    "extend_set": (
        IN_SET,
        lambda: aggregation.extend_set("q", SET, NOW + 99),
        ("aggregation_sets",),
    ),
    "reclaim": (
        IN_SET,
        lambda: aggregation.reclaim_set("q", SET),
        ("g:g:s", "g:g", "groups", "aggregation_sets"),
    ),
    "note_groups": (
        {},
        lambda: aggregation.note_groups("q", ["g"], NOW_MS),
        ("own:group_names",),
    ),
    "restore_groups": (
        {"t:g": MEMBERS["t:g"], "g:g": MEMBERS["g:g"], "own:group_names": Zset(g=NOW)},
        lambda: aggregation.restore_groups("q", 0, NOW_MS),
        ("own:group_names", "groups"),
    ),
    "delete_expired": (
        OVER,
        lambda: maintenance.delete_expired("q", NOW_MS),
        ("completed", "own:events"),
    ),
    "cancel": (
        WAITING,
        lambda: maintenance.cancel("q", "w", encoded("w"), encoded("w"), b"E", NOW_MS),
        ("pending", "archived", "own:events"),
    ),
    "cancel_tasks": (
        WAITING,
        lambda: inspect.cancel_tasks("q", ["w"], [b"E"], "cancelled", NOW_MS),
        ("pending", "archived", "own:events"),
    ),
    "set_aside": (
        WAITING,
        lambda: inspect.set_aside("q", ["w"], NOW_MS + 60_000, NOW_MS),
        ("pending", "scheduled", "own:events"),
    ),
    "store_code": (
        {},
        lambda: enqueue.store_code("q", b"\x01", b"blob", NOW_MS),
        ("own:codes",),
    ),
    "drop_code": (
        {"own:code:01": "blob"},
        lambda: enqueue.drop_code("q", b"\x01", str(NOW)),
        ("own:codes",),
    ),
}


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize(
    ("name", "odd"), [(name, key) for name, (_, _, keys) in CASES.items() for key in keys]
)
def test_a_key_of_another_kind_stops_a_script_before_it_writes(
    broker: Any, redis: Any, name: str, odd: str
) -> None:
    given, make, _ = CASES[name]
    load(redis, {**given, odd: ["text"] if odd in BOTH else "text"})
    before = dump(redis)
    with pytest.raises(StoreError):
        broker.run(make())
    assert dump(redis) == before
    redis.delete(full_name(odd))
    if odd in given:
        load(redis, {odd: given[odd]})
    broker.run(make())  # that key was all that was wrong
    assert dump(redis) != before


def test_without_memory_nothing_is_kept_but_tasks_are_fetched_and_end(
    broker: Any, redis: Any
) -> None:
    load(redis, {**WAITING, **HELD})
    before = dump(redis)
    with without_memory(redis), pytest.raises(StoreError, match="full"):
        broker.run(lifecycle.complete("q", [kept("a")], NOW_MS, WHO))
    assert dump(redis) == before
    with without_memory(redis):
        assert broker.run(lifecycle.complete("q", [ended("a"), ended("b")], NOW_MS, WHO)) == []
        [found] = broker.run(lifecycle.fetch("q", 9, NOW_MS, LEASE_MS, "t"))
    assert (found.task_id, dump(redis)["active"]) == ("w", ["w"])


@pytest.mark.usefixtures("odd_store")
def test_a_key_that_is_no_task_does_not_keep_the_others_of_a_batch_from_ending(
    broker: Any, redis: Any
) -> None:
    load(redis, {**fetched(active("a"), active("b")), "t:x": "text"})
    batch = [ended("a"), ended("x"), ended("b")]
    assert broker.run(lifecycle.complete("q", batch, NOW_MS, WHO)) == [1]
    assert broker.run(lifecycle.extend("q", [("x", FENCE)], LEASE_MS)) == [0]


@pytest.mark.usefixtures("odd_store")
def test_a_unique_lock_of_another_kind_is_left_alone(broker: Any, redis: Any) -> None:
    load(redis, {**fetched(active("a", {"unique_key": "asynq:{q}:unique:t:"})), "unique:t:": ["a"]})
    assert broker.run(lifecycle.complete("q", [ended("a")], NOW_MS, WHO)) == []
    assert dump(redis)["unique:t:"] == ["a"]
