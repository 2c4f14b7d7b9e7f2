"""Values of other programs at nbqueue's keys keep no task from being fetched or from ending."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, encoded, load, task
from transitions import FENCE, LEASE_MS, NOW, WHO, active, ended, failure, fetched, kept

from nbqueue.broker.commands import enqueue, inspect, lifecycle, maintenance, requirements
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands.limits import limited
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.script_call import Command

LOCK = "asynq:{q}:unique:t:"
LIMIT = {"own:limits": {"l": "1|||"}}
PENDING = {
    "t:w": task("w", "pending", {"pending_since": 1, "nbq:limit": "l"}),
    "pending": ["w"],
}
PARKED = {
    "t:p": task("p", "scheduled", {"nbq:limit": "l", "nbq:parked": "limit:l"}),
    "scheduled": Zset(p=NOW + 3600),
    "own:wait:limit:l": Zset(p=1.0),
    "own:waiting": Zset({"limit:l": NOW_MS + 9e9}),
    "own:limit:l": Zset(a=NOW_MS),
}
FOR_LOCK = {
    "t:k": task("k", "scheduled", {"nbq:parked": f"lock:{LOCK}"}, unique_key=LOCK),
    "scheduled": Zset(k=NOW + 3600),
    f"own:wait:lock:{LOCK}": Zset(k=1.0),
    "unique:t:": "a",
}
FOR_NEED = {
    "t:r": task("r", "scheduled", {"nbq:parked": "need:gpu"}),
    "scheduled": Zset(r=NOW + 999),
    "own:wait:need:gpu": Zset(r=1.0),
    "own:requirements": {"gpu"},
}
HELD = {**LIMIT, **PARKED, **fetched(active("a", {"nbq:limit": "l"}), active("b"))}
HOLDER = {**FOR_LOCK, **fetched(active("a", unique_key=LOCK), active("b"))}

ENDS = [ended("a"), kept("b")]
FETCH = ("q", 9, NOW_MS, LEASE_MS, "t")
CASES: dict[str, tuple[dict[str, Any], Callable[[], Command[Any]]]] = {
    "fetch": ({**LIMIT, **PENDING}, lambda: lifecycle.fetch(*FETCH)),
    "fetch where some wait": (
        {**LIMIT, **PARKED, **PENDING},
        lambda: lifecycle.fetch(*FETCH),
    ),
    "fetch_required": (
        FOR_NEED,
        lambda: requirements.fetch_required("q", "gpu", 9, NOW_MS, LEASE_MS, "t"),
    ),
    "complete": (HELD, lambda: lifecycle.complete("q", ENDS, NOW_MS, WHO)),
    "complete the holder": (HOLDER, lambda: lifecycle.complete("q", ENDS, NOW_MS, WHO)),
    "retry": (
        HELD,
        lambda: failure_commands.retry("q", failure("a"), encoded("a"), NOW_MS, NOW_MS, WHO),
    ),
    "archive": (
        HELD,
        lambda: failure_commands.archive("q", failure("a"), encoded("a"), NOW_MS, WHO),
    ),
    "archive the holder": (
        HOLDER,
        lambda: failure_commands.archive("q", failure("a"), encoded("a"), NOW_MS, WHO),
    ),
    "requeue": (HELD, lambda: failure_commands.requeue("q", failure("a"), "lost", NOW_MS, WHO)),
    "give back": (
        HELD,
        lambda: failure_commands.requeue("q", failure("a"), "unstarted", NOW_MS, WHO),
    ),
    "park_required": (HELD, lambda: requirements.park_required("q", "a", FENCE, "gpu", NOW_MS)),
    "enqueue": (
        LIMIT,
        lambda: enqueue.enqueue("q", [limited(NewTask("new", encoded("new")), "l")], NOW_MS),
    ),
    "cancel": (
        {**LIMIT, **PARKED, **PENDING},
        lambda: maintenance.cancel("q", "p", encoded("p"), encoded("p"), b"E", NOW_MS),
    ),
    "cancel_tasks": (
        {**LIMIT, **PARKED, **PENDING},
        lambda: inspect.cancel_tasks("q", ["p", "w"], [b"E", b"E"], "c", NOW_MS),
    ),
    "forward": (
        {**LIMIT, **PARKED, "scheduled": Zset(p=NOW - 5)},
        lambda: maintenance.forward("q", NOW_MS),
    ),
}
ODD_KEYS = (
    *("own:limit:l", "own:rate:l", "own:limits", "own:wait:limit:l", "own:waiting"),
    *(f"own:wait:lock:{LOCK}", "own:wait:need:gpu", "own:settings", "own:cancelled"),
)


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize("odd", ODD_KEYS)
@pytest.mark.parametrize("name", CASES)
def test_a_key_of_another_type_stops_no_task(broker: Any, redis: Any, name: str, odd: str) -> None:
    given, make = CASES[name]
    for value in ("text", ["x"], {"x"}):
        redis.flushdb()
        load(redis, {**given, odd: value})
        broker.run(make())
        content = dump(redis)
        for task_id in [key[2:] for key in content if key.startswith("t:")]:
            assert task_id in content[content[f"t:{task_id}"]["state"]]
