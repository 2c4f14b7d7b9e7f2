"""Listings in slices show tasks of every state, and leave out what filters exclude."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Stream, Zset, dump, load, task
from transitions import FENCE, NOW, SINCE, active, fetched

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands.enqueue import name_task
from nbqueue.broker.reads import list_tasks
from nbqueue.broker.reads.list_tasks import LISTED, Listing, Wanted
from nbqueue.broker.reads.task_table import TaskRow
from nbqueue.wire.ids import make_ids

FETCHED_MS = 1_999_999_999_000
[ID] = make_ids("client", NOW_MS - 9000, [1])


def rows(
    broker: Broker, *, in_states: Any = LISTED, limit: int | None = None, **wanted: Any
) -> Any:
    found = Listing(broker).tasks(["q"], Wanted(**wanted), in_states, limit)
    return {row.task_id: row for row in found}


def told(row: TaskRow) -> dict[str, Any]:
    """Return the known values of a row."""
    names = ("state", "attempt", "enqueued_ms", "pending_ms", "process_ms", "started_ms",
             "finished_ms", "waited_ms", "worker", "name", "progress")  # fmt: skip
    return {name: getattr(row, name) for name in names if getattr(row, name) is not None}


def attempt_of(task_id: str, **fields: str) -> dict[str, str]:
    usual = {"task_id": task_id, "type": "t", "attempt": "2", "started_at": str(NOW_MS - 3000)}
    usual |= {"finished_at": str(NOW_MS - 1000), "waited": "250", "worker": "host:1:ab"}
    return usual | fields


def test_each_state_tells_what_is_known_of_it(broker: Broker, redis: Any) -> None:
    since = str((NOW_MS - 5000) * 1_000_000)
    load(redis, {
        "pending": [ID],
        f"t:{ID}": task(ID, "pending", {"pending_since": since, "nbq:name": "train"}),
        "scheduled": Zset(s=NOW + 61),
        "t:s": task("s", "scheduled", {"nbq:due": str(NOW_MS + 60_500)}),
        "retry": Zset(r=NOW + 10),
        "t:r": task("r", "retry", {"nbq:due": "5"}, last_failed_at=NOW - 2, error_msg="no"),
        "completed": Zset(c=NOW + 100),
        "t:c": task("c", "completed", completed_at=NOW - 3),
        "archived": Zset(x=NOW - 4),
        "t:x": task("x", "archived", {"nbq:progress": '{"bars": [{"n": 3, "total": 4}]}'}),
        **fetched(active("a")),
    })  # fmt: skip
    before = dump(redis)
    found = rows(broker)
    assert {task_id: told(row) for task_id, row in found.items()} == {
        ID: {"state": "pending", "attempt": 0, "enqueued_ms": NOW_MS - 9000,
             "pending_ms": NOW_MS - 5000, "name": "train"},
        "s": {"state": "scheduled", "attempt": 0, "process_ms": NOW_MS + 60_500},
        "r": {"state": "retry", "attempt": 0, "process_ms": (NOW + 10) * 1000,
              "finished_ms": (NOW - 2) * 1000},
        "c": {"state": "completed", "attempt": 1, "finished_ms": (NOW - 3) * 1000},
        "x": {"state": "archived", "attempt": 0, "finished_ms": (NOW - 4) * 1000,
              "progress": 0.75},
        "a": {"state": "active", "attempt": 1, "started_ms": FETCHED_MS,
              "waited_ms": max(0, FETCHED_MS - SINCE // 1_000_000), "worker": "host:1:ab"},
    }  # fmt: skip
    assert found["r"].message.error_msg == "no"
    assert dump(redis) == before


def test_the_last_attempt_tells_when_a_task_ran_and_where(broker: Broker, redis: Any) -> None:
    load(redis, {
        "completed": Zset(c=NOW + 100, go=NOW + 100),
        "t:c": task("c", "completed", {"nbq:attempt": "2"}, completed_at=NOW - 1),
        "t:go": task("go", "completed", completed_at=NOW - 1),
    })  # fmt: skip
    for stamp, entry in (
        (NOW_MS - 2000, attempt_of("c", attempt="1", worker="older")),
        (NOW_MS - 1000, attempt_of("c")),
        (NOW_MS - 900, attempt_of("go", worker="of another life")),
    ):
        redis.xadd("nbqueue:{q}:attempts", entry, id=f"{stamp}-0")
    found = rows(broker)
    assert told(found["c"]) == {
        "state": "completed", "attempt": 2, "started_ms": NOW_MS - 3000,
        "finished_ms": NOW_MS - 1000, "waited_ms": 250, "worker": "host:1:ab",
    }  # fmt: skip
    assert told(found["go"]) == {
        "state": "completed",
        "attempt": 1,
        "finished_ms": (NOW - 1) * 1000,
    }
    without = rows(broker, with_attempts=False)["c"]
    assert without.started_ms is None


def test_an_active_task_of_a_program_in_go_is_not_said_to_be_ours(
    broker: Broker, redis: Any
) -> None:
    stale = {"nbq:lease": f"{FENCE[1:]}|{SINCE}", "nbq:attempt": "1"}
    load(redis, {
        "active": ["a"], "lease": Zset(a=NOW + 30), "t:a": task("a", "active", stale),
    })  # fmt: skip
    assert told(rows(broker)["a"]) == {"state": "active", "attempt": 1}


def test_tasks_in_groups_and_in_sets_being_aggregated_are_listed(
    broker: Broker, redis: Any
) -> None:
    load(redis, {
        "groups": {"mail"}, "g:mail": Zset(a=NOW), "t:a": task("a", "aggregating"),
        "g:mail:1": Zset(b=NOW), "t:b": task("b", "aggregating"),
        "aggregation_sets": Zset({"asynq:{q}:g:mail:1": NOW + 120}),
    })  # fmt: skip
    assert set(rows(broker)) == {"a", "b"}


def payload_of(found: dict[str, TaskRow], task_id: str) -> bytes:
    return found[task_id].message.payload


@pytest.mark.parametrize("length", [0, 1, 3, 200, 600, 70_000])
def test_large_payloads_stay_in_the_store_unless_wanted(
    broker: Broker, redis: Any, length: int
) -> None:
    payload = b"\0nbq" + bytes(range(256)) * 300
    load(redis, {
        "pending": ["a"],
        "t:a": task("a", "pending", payload=payload[:length] or None, type="fit", retry=7),
    })  # fmt: skip
    without, whole = rows(broker)["a"], rows(broker, with_payload=True)["a"]
    assert without.message.payload == (b"" if length > 512 else payload[:length])
    assert whole.message.payload == payload[:length]
    assert without.is_call == whole.is_call == (length >= 4)
    for row in (whole, without):
        row.message.ClearField("payload")
    assert without.message == whole.message
    assert (without.message.type, without.message.retry, without.message.id) == ("fit", 7, "a")


def test_results_and_errors_are_read_when_wanted(broker: Broker, redis: Any) -> None:
    more = {"result": b"\0yes", "nbq:error": b"\0no"}
    load(redis, {
        "completed": Zset(a=NOW + 9, b=NOW + 9),
        "t:a": task("a", "completed", more), "t:b": task("b", "completed"),
    })  # fmt: skip
    assert {(r.result, r.error) for r in rows(broker).values()} == {(None, None)}
    found = rows(broker, with_result=True)
    assert (found["a"].result, found["a"].error, found["b"].result) == (b"\0yes", None, None)
    found = rows(broker, with_error=True)
    assert (found["a"].result, found["a"].error, found["b"].error) == (None, b"\0no", None)
    found = rows(broker, with_result=True, with_error=True)
    assert (found["a"].result, found["a"].error) == (b"\0yes", b"\0no")


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({"types": ("fit",)}, {"a"}),
        ({"types": ("fit*",)}, {"a", "b"}),
        ({"types": ("fit", "mail:*")}, {"a", "c"}),
        ({"types": ("*",)}, {"a", "b", "c"}),
        ({"types": ("f",)}, set()),
        ({"error": "time"}, {"b"}),
        ({"error": "fit"}, set()),
        ({"error": "%a"}, set()),
        ({"names": frozenset({"mine"})}, {"c"}),
        ({"since_ms": NOW_MS - 50_000}, {"b"}),
        # Tasks archived within this second may have been archived after it.
        ({"since_ms": (NOW - 10) * 1000 + 900}, {"b"}),
        ({"since_ms": (NOW - 9) * 1000}, set()),
    ],
)
def test_filters_choose(broker: Broker, redis: Any, wanted: Any, ids: set[str]) -> None:
    load(redis, {
        "archived": Zset(a=NOW - 100, b=NOW - 10, c=NOW - 200),
        "t:a": task("a", "archived", type="fit"),
        "t:b": task("b", "archived", type="fitness", error_msg="run out of time"),
        "t:c": task("c", "archived", {"nbq:name": "mine"}, type="mail:x", payload=b"time"),
    })  # fmt: skip
    assert set(rows(broker, **wanted)) == ids
    by_ids = Listing(broker).by_ids(["q"], [("a", None), ("b", "q"), ("c", None)], Wanted(**wanted))
    assert {row.task_id for row in by_ids} == ids


@pytest.mark.parametrize(
    "count", [0, 1, list_tasks.SLICE, list_tasks.SLICE + 1, 3 * list_tasks.SLICE]
)
@pytest.mark.parametrize("state", ["pending", "completed"])
def test_all_slices_are_read_and_each_task_once(
    broker: Broker, redis: Any, count: int, state: str
) -> None:
    ids = [f"t{i:04}" for i in range(count)]
    if ids:
        place = ids[::-1] if state == "pending" else Zset({t: NOW + i for i, t in enumerate(ids)})
        load(redis, {state: place, **{f"t:{i}": task(i, state) for i in ids}})
    assert sorted(rows(broker)) == ids
    # The newest are read first, and no more than are wanted.
    assert sorted(rows(broker, limit=3)) == ids[-3:]
    assert rows(broker, limit=0) == {}


@pytest.mark.usefixtures("odd_store")
def test_what_cannot_be_read_has_a_fault(broker: Broker, redis: Any) -> None:
    load(redis, {
        "pending": ["gone", "list", "bad", "a"], "t:list": ["x"],
        "t:bad": {"msg": b"\xff\xff", "state": "pending"},
        "t:a": task("a", "pending", {"pending_since": "soon", "nbq:attempt": "many"}),
        "retry": {"no": "set"},
    })  # fmt: skip
    found = rows(broker)
    assert {i: row.fault for i, row in found.items()} == {
        "a": "nbq:attempt is 'many'",
        "bad": "its message cannot be read",
    }
    assert told(found["a"]) == {"state": "pending", "attempt": 0}
    assert rows(broker, types=("t",)).keys() == {"a"}


def test_an_attempt_entry_of_another_shape_is_read_too(broker: Broker, redis: Any) -> None:
    load(redis, {
        "completed": Zset(c=NOW + 100),
        "t:c": task("c", "completed", {"nbq:attempt": "1"}),
        "own:attempts": Stream([{"task_id": "c", "new": "1", "started_at": "7", "worker": "w"}]),
    })  # fmt: skip
    assert told(rows(broker)["c"]) == {
        "state": "completed", "attempt": 1, "started_ms": 7, "worker": "w"
    }  # fmt: skip


def test_a_name_is_noted_in_the_task_and_beside_it(broker: Broker, redis: Any) -> None:
    load(redis, {"pending": ["a"], "t:a": task("a", "pending")})
    assert broker.run(name_task("q", "a", "train", 60)) is True
    assert broker.run(name_task("q", "a", "train", 60)) is True
    assert 0 < redis.ttl("nbqueue:{q}:name:train") <= 60
    assert dump(redis, without=("own:name:train",)) == {
        "pending": ["a"], "t:a": task("a", "pending", {"nbq:name": "train"}),
    }  # fmt: skip


def test_a_task_that_is_gone_gets_no_hash_from_its_name(broker: Broker, redis: Any) -> None:
    assert broker.run(name_task("q", "a", "train", 60)) is False
    assert [key.decode() for key in redis.keys("*")] == ["nbqueue:{q}:name:train"]
