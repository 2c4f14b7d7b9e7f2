"""fetch and complete have a script for simple tasks, and a full one for all tasks.

Here both have equal results for simple tasks. Tests of limits, locks and parked tasks run the full
ones, through the same commands.
"""

from __future__ import annotations

import select
from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, load, task
from transitions import TOKEN, WHO, active, ended, fetched, kept

from nbqueue.broker.commands import lifecycle
from nbqueue.store.connection import Store
from nbqueue.transport.blocking import BlockingConnection
from nbqueue.transport.nonblocking import NonblockingConnection
from nbqueue.transport.script_call import NEEDS_FULL, Command

LEASE_MS = NOW_MS + 30_000
PENDING: dict[str, Any] = {
    "pending": ["c", "nothing", "b", "a"],
    "t:a": task("a", "pending", {"pending_since": 5}),
    "t:b": task("b", "pending", {"nbq:attempt": 3, "nbq:lost": 1}),
    "completed": Zset(c=NOW_MS // 1000),
    "t:c": task("c", "completed"),
}


MANY = [f"m{number}" for number in range(50)]
OLD = [MANY[number] for number in (0, 30, 1, 3, 4, 49, 6)]


def fetch(limit: int = 10) -> Command[Any]:
    return lifecycle.fetch("q", limit, NOW_MS, LEASE_MS, TOKEN)


SAME: dict[str, tuple[dict[str, Any], Command[Any]]] = {
    "fetch all": (PENDING, fetch()),
    "fetch some": (PENDING, fetch(2)),
    "fetch from a full queue": ({**PENDING, "own:settings": {"concurrency": 0}}, fetch()),
    "fetch what a queue has room for": (
        {**PENDING, "own:settings": {"concurrency": 1}},
        fetch(),
    ),
    "fetch from a paused queue": ({**PENDING, "paused": "1"}, fetch()),
    "fetch from an empty queue": ({}, fetch()),
    "complete": (
        fetched(active("a"), active("b", retention=60), active("c")),
        lifecycle.complete("q", [ended("c"), kept("b"), ended("x"), ended("c")], NOW_MS, WHO),
    ),
    "complete one that lies in active twice": (
        {**fetched(active("a")), "active": ["a", "a"]},
        lifecycle.complete("q", [ended("a")], NOW_MS, WHO),
    ),
    "complete some of the oldest, and others": (
        fetched(*map(active, MANY)),
        lifecycle.complete("q", [ended(i) for i in OLD], NOW_MS, WHO),
    ),
    "complete many, of which one lies in active twice": (
        {**fetched(*map(active, MANY)), "active": ["m3", *MANY[::-1]]},
        lifecycle.complete("q", [ended(i) for i in OLD], NOW_MS, WHO),
    ),
    "complete many that lie elsewhere than the oldest": (
        fetched(*map(active, MANY)),
        lifecycle.complete("q", [ended(i) for i in MANY[-6:]], NOW_MS, WHO),
    ),
    "complete nothing that is held": (
        {},
        lifecycle.complete("q", [ended("a")], NOW_MS, WHO),
    ),
    "complete in a queue with a limit of its own": (
        {**fetched(active("a")), "own:settings": {"concurrency": 1}},
        lifecycle.complete("q", [ended("a")], NOW_MS, WHO),
    ),
    "complete where the counter would overflow": (
        {**fetched(active("a")), "processed": str(2**63 - 1)},
        lifecycle.complete("q", [ended("a")], NOW_MS, WHO),
    ),
}


def full_of(command: Command[Any]) -> Command[Any]:
    assert command.full is not None
    return command.full


@pytest.mark.parametrize("case", SAME)
def test_both_ways_do_the_same_for_simple_tasks(case: str, store: Store, redis: Any) -> None:
    content, command = SAME[case]
    channel, found = BlockingConnection(store), []
    for way in (command, full_of(command)):
        redis.flushall()
        load(redis, content)
        reply = channel.run([Command(way.script, way.keys, way.args, lambda reply: reply)])[0]
        found.append((reply, dump(redis)))
    channel.close()
    redis.flushall()  # some leave an id in the line that no program would put there
    assert found[0] == found[1]
    assert found[0][0] != NEEDS_FULL


NOT_SIMPLE: dict[str, dict[str, Any]] = {
    "one with a limit": {"nbq:limit": "api"},
    "one that was parked": {"nbq:parked": "turn"},
}


@pytest.mark.parametrize("case", NOT_SIMPLE)
def test_the_simple_script_does_nothing_to_other_tasks(case: str, store: Store, redis: Any) -> None:
    load(redis, {**PENDING, "t:b": task("b", "pending", NOT_SIMPLE[case])})
    before, channel, command = dump(redis), BlockingConnection(store), fetch()
    alone = Command(command.script, command.keys, command.args, lambda reply: reply)
    assert channel.run([alone]) == [NEEDS_FULL]
    assert dump(redis) == before
    assert [each.task_id for each in channel.run([command])[0]] == ["a", "b"]
    channel.close()


def test_a_connection_sends_the_full_script_for_a_while(store: Store, redis: Any) -> None:
    load(redis, {**PENDING, "t:b": task("b", "pending", {"nbq:limit": "api"})})
    link, found = NonblockingConnection(store), []

    def run() -> None:
        link.send(fetch(1), found.append)
        wanted = len(found) + 1
        while len(found) < wanted:
            link.flush()
            ready, _, _ = select.select([link], [], [], 10)
            assert ready, "no reply came"
            link.read()

    redis.config_resetstat()
    run()
    run()  # b: the short way first
    for _ in range(10):
        run()
    calls = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    link.close()
    assert [[each.task_id for each in reply] for reply in found[:3]] == [["a"], ["b"], []]
    assert calls == 1 + 2 + 10
