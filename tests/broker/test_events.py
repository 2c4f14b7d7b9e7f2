"""Events name their tasks, whatever their ids are."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, dump, load, task
from transitions import FENCE, LEASE_MS, TOKEN, WHO, ended

from nbqueue.broker.commands import lifecycle
from nbqueue.wire.task_events import ids_of

EVENTS = "nbqueue:{q}:events"


def told(redis: Any) -> list[tuple[str, list[str]]]:
    return [(words[b"event"].decode(), ids_of(words)) for _, words in redis.xrange(EVENTS)]


def lines(redis: Any) -> list[dict[str, str]]:
    found: list[dict[str, str]] = dump(redis)["own:events"]
    return [{name: text for name, text in entry.items() if name != "at"} for entry in found]


def put(redis: Any, *ids: str) -> None:
    load(redis, {"pending": list(ids[::-1]), **{f"t:{i}": task(i, "pending") for i in ids}})


def test_an_id_with_a_space_has_an_entry_of_its_own(broker: Any, redis: Any) -> None:
    put(redis, "a", "b c", "d", " ", "a b")
    broker.run(lifecycle.fetch("q", 9, NOW_MS, LEASE_MS, TOKEN))
    assert lines(redis) == [
        {"event": "started", "id": "b c"},
        {"event": "started", "id": " "},
        {"event": "started", "id": "a b"},
        {"event": "started", "ids": "a d"},
    ]
    done = [ended("b c", fence=FENCE), ended("d", fence=FENCE)]
    broker.run(lifecycle.complete("q", done, NOW_MS, WHO))
    assert told(redis)[4:] == [("completed", ["b c"]), ("completed", ["d"])]


def test_where_all_have_spaces_there_is_no_entry_for_the_rest(broker: Any, redis: Any) -> None:
    put(redis, "b c")
    broker.run(lifecycle.fetch("q", 9, NOW_MS, LEASE_MS, TOKEN))
    assert told(redis) == [("started", ["b c"])]
    assert lines(redis) == [{"event": "started", "id": "b c"}]


@pytest.mark.parametrize("task_id", ["a\tb", "a\x1fb", "a\nb", "ü", "\u2003"])
def test_other_white_space_joins_nothing(broker: Any, redis: Any, task_id: str) -> None:
    put(redis, "a", task_id)
    broker.run(lifecycle.fetch("q", 9, NOW_MS, LEASE_MS, TOKEN))
    assert told(redis) == [("started", ["a", task_id])]


@pytest.mark.parametrize(
    ("entry", "ids"),
    [
        ({b"ids": b"a b"}, ["a", "b"]),
        ({b"id": b"a b"}, ["a b"]),
        ({}, []),
        ({b"ids": b""}, []),
        ({b"head": b"task-", b"rests": b"1 23  4"}, ["task-1", "task-23", "task-", "task-4"]),
    ],
)
def test_an_entry_is_read(entry: dict[bytes, bytes], ids: list[str]) -> None:
    assert ids_of(entry) == ids


@pytest.mark.parametrize(
    ("ids", "head", "rests"),
    [
        ("client1 client2 client3 client4", "client", "1 2 3 4"),
        ("client clientB clientBC clientC", "client", " B BC C"),
        ("client-1 client-9 clientA client-1x", "client", "-1 -9 A -1x"),
    ],
)
def test_what_many_ids_begin_with_is_written_once(
    broker: Any, redis: Any, ids: str, head: str, rests: str
) -> None:
    put(redis, *ids.split())
    broker.run(lifecycle.fetch("q", 9, NOW_MS, LEASE_MS, TOKEN))
    assert lines(redis) == [{"event": "started", "head": head, "rests": rests}]
    assert told(redis) == [("started", ids.split())]


def test_no_character_is_cut_where_ids_begin_to_differ(broker: Any, redis: Any) -> None:
    ids = ["client-é", "client-è", "client-ê", "client-ë"]
    put(redis, *ids)
    broker.run(lifecycle.fetch("q", 9, NOW_MS, LEASE_MS, TOKEN))
    assert lines(redis) == [{"event": "started", "head": "client-", "rests": "é è ê ë"}]
    assert told(redis) == [("started", ids)]


@pytest.mark.parametrize(
    "ids", [["client1", "client2", "client3"], ["a1", "a2", "a3", "a4"], ["client1", "x", "y", "z"]]
)
def test_few_ids_and_unlike_ones_are_written_whole(broker: Any, redis: Any, ids: list[str]) -> None:
    put(redis, *ids)
    broker.run(lifecycle.fetch("q", 9, NOW_MS, LEASE_MS, TOKEN))
    assert lines(redis) == [{"event": "started", "ids": " ".join(ids)}]
