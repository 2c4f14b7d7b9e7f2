"""Aggregation groups: tasks come, wait, become one task, or go back to their group."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from asynq_peer import AsynqPeer
from keyspace import NOW_MS, Until, Zset, dump, encoded, load, task
from transitions import NOW, WHO, active, events, failure, fetched

from nbqueue.broker.commands import aggregation, enqueue, maintenance
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands.aggregation import Aggregate, Aggregated, Ripeness, Set, Taken
from nbqueue.broker.commands.enqueue import LockHolder, UniqueLock
from nbqueue.broker.new_tasks import ENQUEUED, EnqueueRequest
from nbqueue.tasks.new_task import NewTask

SET = Set("g", "s")
KEY = "asynq:{q}:g:g:s"
LOCK = "asynq:{q}:unique:t:83878c91171338902e0fe0fb97a8c47a"
SHORT_LOCK = LOCK.removeprefix("asynq:{q}:")
HOUR = 3_600_000
MINUTE = Ripeness(60_000)
UNTIL = NOW + 120


def new(task_id: str, **fields: Any) -> NewTask:
    return NewTask(task_id, encoded(task_id, group_key="g", **fields))


def member(task_id: str, added_ms: int | None = NOW_MS, **more: Any) -> Any:
    own = {"group": "g", "nbq:added": added_ms, **more}
    own = {name: value for name, value in own.items() if value is not None}
    return task(task_id, "aggregating", own, group_key="g")


def group(**added_ms: int) -> dict[str, Any]:
    """A group of tasks that came at these times."""
    return {
        "g:g": Zset({i: ms // 1000 for i, ms in added_ms.items()}),
        "groups": {"g"},
        **{f"t:{i}": member(i, ms) for i, ms in added_ms.items()},
    }


def in_set(*ids: str, deadline: int = UNTIL) -> dict[str, Any]:
    return {
        "g:g:s": Zset(dict.fromkeys(ids, NOW)),
        "aggregation_sets": Zset({KEY: deadline}),
        **{f"t:{i}": member(i) for i in ids},
    }


# --- Into a group --------------------------------------------------------------------------------


def test_tasks_lie_in_their_group_as_asynq_puts_them(broker: Any, redis: Any) -> None:
    tasks = [new("a"), new("b")]
    assert broker.run(aggregation.add_to_group("q", "g", tasks, NOW_MS)) == []
    assert dump(redis) == {**group(a=NOW_MS, b=NOW_MS), **events(("aggregating", "a b"))}


def test_an_id_that_exists_is_left_as_it_is_and_a_repeat_counts(broker: Any, redis: Any) -> None:
    load(redis, {"pending": ["b"], "t:b": task("b", "pending", {"pending_since": 1})})
    tasks = [new("a"), new("b")]
    assert broker.run(aggregation.add_to_group("q", "g", tasks, NOW_MS)) == [1]
    before = dump(redis)
    assert before == {
        **group(a=NOW_MS),
        "pending": ["b"],
        "t:b": task("b", "pending", {"pending_since": 1}),
        **events(("aggregating", "a")),
    }
    assert broker.run(aggregation.add_to_group("q", "g", tasks, NOW_MS)) == [0, 1]
    assert broker.run(aggregation.add_to_group("q", "g", tasks, NOW_MS, repeated=True)) == [1]
    assert dump(redis) == before


def test_workers_are_told_how_large_the_group_is(broker: Any, redis: Any) -> None:
    with redis.pubsub() as listener:
        listener.subscribe("nbqueue:{q}:wake")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        broker.enqueue(EnqueueRequest("q", [new("a"), new("b")], group="g h"))
        assert listener.get_message(timeout=5)["data"] == b"group 2 g h"


def test_a_unique_task_of_a_group_names_its_lock(broker: Any, redis: Any) -> None:
    made = new("a", unique_key=LOCK)
    assert (
        broker.enqueue(EnqueueRequest("q", [made], lock=UniqueLock(LOCK, HOUR), group="g"))
        == ENQUEUED
    )
    own = {"unique_key": LOCK, "nbq:unique": HOUR, "group": "g", "nbq:added": NOW_MS}
    content = dump(redis, (SHORT_LOCK, "asynq:queues"))
    assert content == {
        "g:g": Zset(a=NOW),
        "groups": {"g"},
        "t:a": task("a", "aggregating", own, group_key="g", unique_key=LOCK),
        **events(("aggregating", "a")),
    }
    assert redis.get(LOCK) == b"a"
    other = new("b", unique_key=LOCK)
    assert broker.enqueue(
        EnqueueRequest("q", [other], lock=UniqueLock(LOCK, HOUR), group="g")
    ).holder == LockHolder("a", "aggregating")
    assert (
        broker.enqueue(
            EnqueueRequest(
                "q", [other], lock=UniqueLock(LOCK, HOUR, replaces_holder=True), group="g"
            )
        )
        == ENQUEUED
    )
    assert dump(redis)["g:g"] == Zset(b=NOW)
    request = EnqueueRequest("q", [other], lock=UniqueLock(LOCK, HOUR), group="g")
    assert broker.enqueue(request).conflicts == [0]


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("by_go", [False, True])
def test_a_delayed_task_goes_to_its_group_when_it_is_due(
    broker: Any, redis: Any, clock: Any, unique: bool, by_go: bool
) -> None:
    due_ms = NOW_MS + 5_000
    if unique:
        made = new("a", unique_key=LOCK)
        assert (
            broker.enqueue(
                EnqueueRequest("q", [made], lock=UniqueLock(LOCK, HOUR), due_ms=due_ms, group="g")
            )
            == ENQUEUED
        )
    else:
        assert broker.enqueue(EnqueueRequest("q", [new("a")], due_ms=due_ms, group="g")) == ENQUEUED
    content = dump(redis)
    assert content["scheduled"] == Zset(a=NOW + 6)
    assert content["t:a"]["group"] == "g"
    assert content["own:group_names"] == Zset(g=NOW + 5)
    now_ms = clock.advance(6)
    if by_go:
        assert AsynqPeer(redis).forward(now_ms // 1000) == 1
        assert "groups" not in dump(redis), "Go makes the name known by now: no need to restore it"
        assert broker.run(aggregation.restore_groups("q", 0, now_ms)) is None
    else:
        assert broker.run(maintenance.forward("q", now_ms)).moved == 1
    content = dump(redis)
    assert content["groups"] == {"g"}
    assert content["g:g"] == Zset(a=NOW + 6)
    assert content["t:a"].get("nbq:added") == (None if by_go else now_ms)


# --- Ripe or not ---------------------------------------------------------------------------------

SECOND = NOW_MS - NOW_MS % 1000
RIPE: dict[str, tuple[dict[str, Any], Ripeness, Any, int]] = {
    # the stored keys; the options of the group; when it is ripe (None: never); how many then move
    "an empty group": ({}, MINUTE, None, 0),
    "the size reached": (group(a=NOW_MS, b=NOW_MS), Ripeness(60_000, 0, 2), 0, 2),
    "more than the size": (group(a=NOW_MS - 1, b=NOW_MS), Ripeness(60_000, 0, 1), 0, 1),
    "less than the size": (
        group(a=NOW_MS - 9_000, b=NOW_MS),
        Ripeness(60_000, 0, 3),
        NOW_MS + 60_000,
        2,
    ),
    "the newest older than the grace period": (
        group(a=NOW_MS - 99_000, b=NOW_MS - 60_000),
        MINUTE,
        NOW_MS,
        2,
    ),
    "the newest a millisecond too new": (
        group(a=NOW_MS - 99_000, b=NOW_MS - 59_999),
        MINUTE,
        NOW_MS + 1,
        2,
    ),
    "the oldest older than the longest delay": (
        group(a=NOW_MS - 5_000, b=NOW_MS),
        Ripeness(60_000, 5_000),
        NOW_MS,
        2,
    ),
    "the oldest not older than the longest delay": (
        group(a=NOW_MS - 4_999, b=NOW_MS),
        Ripeness(60_000, 5_000),
        NOW_MS + 1,
        2,
    ),
    "older than the longest delay, and only so many at once": (
        group(a=NOW_MS - 6_000, b=NOW_MS - 5_000),
        Ripeness(60_000, 5_000, 3),
        NOW_MS - 1_000,
        2,
    ),
    "two of one second": (
        group(b=SECOND + 7, a=SECOND + 9),
        Ripeness(1_000),
        SECOND + 1_009,
        2,
    ),
    "as Go adds them, in whole seconds": (
        {**group(a=NOW_MS), "t:a": member("a", None)},
        MINUTE,
        SECOND + 60_000,
        1,
    ),
    "moved by Go since, so that the exact time is stale": (
        {**group(a=NOW_MS), "t:a": member("a", NOW_MS - 99_000)},
        MINUTE,
        SECOND + 60_000,
        1,
    ),
}


@pytest.mark.parametrize("case", RIPE)
def test_when_a_group_is_ripe(broker: Any, redis: Any, case: str) -> None:
    given, when, at, size = RIPE[case]
    load(redis, given)
    assert broker.run(aggregation.aggregation_due("q", ["g", "other"], when)) == [at, None]
    assert dump(redis) == given
    if at is None:
        assert broker.run(aggregation.form_set("q", SET, when, NOW_MS, UNTIL)) == Taken(0, None)
        return
    if at:
        early = aggregation.form_set("q", SET, when, at - 1, UNTIL)
        assert broker.run(early) == Taken(0, at)
        assert dump(redis) == given
    assert broker.run(aggregation.form_set("q", SET, when, at or NOW_MS, UNTIL)).size == size


def test_members_move_to_a_set_with_their_scores_and_others_stay(broker: Any, redis: Any) -> None:
    load(redis, group(a=NOW_MS - 2_000, b=NOW_MS - 1_000, c=NOW_MS))
    command = aggregation.form_set("q", SET, Ripeness(60_000, 0, 2), NOW_MS, UNTIL)
    assert broker.run(command) == Taken(2, 0)
    then = {
        "g:g": Zset(c=NOW),
        "groups": {"g"},
        "g:g:s": Zset(a=NOW - 2, b=NOW - 1),
        "aggregation_sets": Zset({KEY: UNTIL}),
        **{f"t:{i}": member(i, NOW_MS - ms) for i, ms in (("a", 2_000), ("b", 1_000), ("c", 0))},
    }
    assert dump(redis) == then
    assert broker.run(command) == Taken(2, 0)  # the reply was lost, and it is sent again
    assert dump(redis) == then
    read = broker.run(aggregation.read_set("q", SET, 0))
    assert read == [new("a"), new("b")]
    assert broker.run(aggregation.read_set("q", SET, 1, limit=1)) == [new("b")]


@pytest.mark.parametrize(("most", "size"), [(1, 1), (2, 2), (9, 3)])
def test_a_set_holds_no_more_bytes_than_go_to_the_function_at_once(
    broker: Any, redis: Any, most: int, size: int
) -> None:
    load(redis, group(a=NOW_MS, b=NOW_MS, c=NOW_MS))
    most_bytes = most * len(new("a").msg)
    when = Ripeness(60_000, 0, 3)
    command = aggregation.form_set("q", SET, when, NOW_MS, UNTIL, most_bytes - (most == 1))
    assert broker.run(command) == Taken(size, None if size == 3 else 0)
    content = dump(redis)
    assert set(content["g:g:s"]) == set("abc"[:size])
    assert set(content.get("g:g", ())) == set("abc"[size:])


def test_a_group_that_is_empty_then_is_forgotten(broker: Any, redis: Any) -> None:
    load(redis, group(a=NOW_MS))
    when = Ripeness(60_000, 0, 1)
    assert broker.run(aggregation.form_set("q", SET, when, NOW_MS, UNTIL)) == Taken(1, None)
    assert dump(redis) == in_set("a")
    load(redis, {"groups": {"empty"}})
    assert broker.run(aggregation.aggregation_due("q", ["empty"], when)) == [None]
    assert dump(redis) == in_set("a")


@pytest.mark.usefixtures("odd_store")
def test_what_is_no_member_is_dropped_and_a_key_of_another_kind_is_skipped(
    broker: Any, redis: Any
) -> None:
    given = group(a=NOW_MS)
    elsewhere = {"pending": ["p"], "t:p": task("p", "pending", {"pending_since": 1})}
    load(redis, {**given, **elsewhere, "g:g": Zset(a=NOW, gone=NOW, p=NOW), "g:text": "text"})
    when = Ripeness(60_000, 0, 3)
    assert broker.run(aggregation.aggregation_due("q", ["text", "g"], when)) == [None, 0]
    assert broker.run(aggregation.form_set("q", SET, when, NOW_MS, UNTIL)) == Taken(1, None)
    assert dump(redis) == {**in_set("a"), **elsewhere, "g:text": "text"}


def test_a_group_that_is_named_as_a_set_takes_nothing_out_of_it(broker: Any, redis: Any) -> None:
    load(redis, in_set("a"))
    chosen, when = Set("g:s", "x"), Ripeness(1)
    assert broker.run(aggregation.form_set("q", chosen, when, NOW_MS + 9, UNTIL)) == Taken(0, None)
    assert dump(redis) == in_set("a")


def test_many_members_move_and_end_in_one_go(broker: Any, redis: Any) -> None:
    ids = [f"{i:05}" for i in range(1_700)]
    for start in range(0, 1_700, 850):
        tasks = [new(i) for i in ids[start : start + 850]]
        assert broker.run(aggregation.add_to_group("q", "g", tasks, NOW_MS)) == []
    when = Ripeness(60_000, 0, 1_700)
    assert broker.run(aggregation.form_set("q", SET, when, NOW_MS, UNTIL)) == Taken(1_700, None)
    made = Aggregate(NewTask("x", encoded("x")))
    assert broker.run(aggregation.finish_set("q", SET, made, NOW_MS)) == Aggregated("ENQUEUED", "")
    content = dump(redis, ("own:events",))
    assert content == {
        "pending": ["x"],
        "t:x": task("x", "pending", {"pending_since": NOW_MS * 1_000_000}),
    }


# --- One task of many ----------------------------------------------------------------------------

PENDING = {"pending_since": NOW_MS * 1_000_000}


def aggregated(made: Aggregate | None = None, **more: Any) -> Any:
    made = made or Aggregate(NewTask("x", encoded("x", **more)))
    return aggregation.finish_set("q", SET, made, NOW_MS)


def test_the_aggregate_takes_the_place_of_the_members(broker: Any, redis: Any) -> None:
    load(redis, in_set("a", "b"))
    assert broker.run(aggregated()) == Aggregated("ENQUEUED", "")
    then = {
        "pending": ["x"],
        "t:x": task("x", "pending", PENDING),
        **events(("aggregated", "a b"), ("enqueued", "x")),
    }
    assert dump(redis) == then
    assert broker.run(aggregated()) is None  # the reply was lost, and it is sent again
    assert dump(redis) == then


def test_the_aggregate_may_be_due_later_or_join_a_group_or_be_unique(
    broker: Any, redis: Any
) -> None:
    load(redis, in_set("a"))
    msg = encoded("x", unique_key=LOCK)
    made = Aggregate(NewTask("x", msg), NOW_MS + 5_000, "h", LOCK, HOUR)
    assert broker.run(aggregated(made)) == Aggregated("ENQUEUED", "")
    own = {"unique_key": LOCK, "nbq:unique": HOUR}
    assert dump(redis, (SHORT_LOCK,)) == {
        "scheduled": Zset(x=NOW + 6),
        "t:x": task(
            "x", "scheduled", {**own, "group": "h", "nbq:due": NOW_MS + 5_000}, unique_key=LOCK
        ),
        **events(("aggregated", "a"), ("scheduled", "x")),
    }
    assert redis.get(LOCK) == b"x"
    assert 3_600 < redis.ttl(LOCK) <= 3_605
    redis.flushall()
    load(redis, in_set("a"))
    assert broker.run(aggregated(Aggregate(NewTask("x", encoded("x")), None, "g")))
    assert dump(redis) == {
        "g:g": Zset(x=NOW),
        "groups": {"g"},
        "t:x": task("x", "aggregating", {"group": "g", "nbq:added": NOW_MS}),
        **events(("aggregated", "a"), ("aggregating", "x")),
    }


def test_an_aggregate_that_is_there_already_stands_for_the_members(broker: Any, redis: Any) -> None:
    holder = {
        "pending": ["h"],
        "t:h": task("h", "pending", {"unique_key": LOCK, "pending_since": 1}, unique_key=LOCK),
        SHORT_LOCK: Until("h", NOW + 60),
    }
    load(redis, {**in_set("a"), **holder})
    made = Aggregate(NewTask("x", encoded("x", unique_key=LOCK)), None, "", LOCK, HOUR)
    assert broker.run(aggregated(made)) == Aggregated("DUPLICATE", "h")
    assert dump(redis) == {**holder, **events(("aggregated", "a"))}


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize("holder", ["a", "gone"])
def test_a_lock_of_a_member_or_of_nobody_does_not_keep_the_aggregate_away(
    broker: Any, redis: Any, holder: str
) -> None:
    # As programs in Go leave it: the lock is named in the message only.
    own = task("a", "aggregating", {"group": "g"}, unique_key=LOCK, group_key="g")
    load(redis, {**in_set("a"), "t:a": own, SHORT_LOCK: holder})
    made = Aggregate(NewTask("x", encoded("x", unique_key=LOCK)), None, "", LOCK, HOUR)
    assert broker.run(aggregated(made)) == Aggregated("ENQUEUED", "")
    assert redis.get(LOCK) == b"x"


def test_members_give_up_their_locks(broker: Any, redis: Any) -> None:
    own = task("a", "aggregating", {"group": "g"}, unique_key=LOCK, group_key="g")
    load(redis, {**in_set("a"), "t:a": own, SHORT_LOCK: "a"})
    assert broker.run(aggregated())
    assert not redis.exists(LOCK)


def test_who_waits_for_the_lock_of_a_member_gets_it(broker: Any, redis: Any) -> None:
    own = task("a", "aggregating", {"group": "g"}, unique_key=LOCK, group_key="g")
    load(redis, {**in_set("a"), "t:a": own, SHORT_LOCK: "a"})
    after = enqueue.enqueue_unique(
        "q",
        NewTask("w", encoded("w", unique_key=LOCK)),
        UniqueLock(LOCK, HOUR, waits_for_holder=True),
        NOW_MS,
    )
    assert broker.run(after) == "ENQUEUED"
    assert dump(redis)["t:w"]["state"] == "scheduled"
    assert broker.run(aggregated())
    assert redis.get(LOCK) == b"w"
    assert dump(redis)["pending"] == ["x", "w"]


def test_an_id_that_exists_writes_nothing(broker: Any, redis: Any) -> None:
    load(redis, {**in_set("a"), "archived": Zset(x=NOW), "t:x": task("x", "archived")})
    before = dump(redis)
    assert broker.run(aggregated()) == Aggregated("EXISTS", "")
    assert dump(redis) == before


def test_who_waits_for_a_member_is_told_the_id_of_the_aggregate(broker: Any, redis: Any) -> None:
    load(redis, in_set("0123456789a"))
    with redis.pubsub() as listener:
        listener.subscribe("nbqueue:{q}:end:012345")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        broker.run(aggregated())
        data = listener.get_message(timeout=5)["data"]
    body = json.dumps("x").encode()
    assert data == struct.pack(">HcI", 11, b"d", len(body)) + b"0123456789a" + body


def test_what_is_no_member_any_more_is_not_deleted(broker: Any, redis: Any) -> None:
    elsewhere = {"pending": ["p"], "t:p": task("p", "pending", {"pending_since": 1})}
    load(redis, {**in_set("a"), **elsewhere})
    redis.zadd(KEY, {"p": NOW})
    assert broker.run(aggregated()) == Aggregated("ENQUEUED", "")
    assert dump(redis)["t:p"] == elsewhere["t:p"]
    assert dump(redis)["pending"] == ["x", "p"]


# --- Back to the group ---------------------------------------------------------------------------


def test_members_go_back_with_their_scores_and_the_group_is_known_again(
    broker: Any, redis: Any
) -> None:
    load(redis, {**in_set("a", "b"), "g:g": Zset(c=NOW + 1), "t:c": member("c")})
    assert broker.run(aggregation.reclaim_set("q", SET)) == 0
    then = {
        "g:g": Zset(a=NOW, b=NOW, c=NOW + 1),
        "groups": {"g"},
        **{f"t:{i}": member(i) for i in "abc"},
    }
    assert dump(redis) == then
    assert broker.run(aggregation.reclaim_set("q", SET)) == 0
    assert broker.run(aggregated()) is None
    assert broker.run(aggregation.extend_set("q", SET, UNTIL)) is False
    assert dump(redis) == then


@pytest.mark.parametrize(("deadline", "is_over"), [(NOW - 1, True), (NOW, True), (NOW + 1, False)])
def test_only_sets_that_are_over_are_put_back_by_others(
    broker: Any, redis: Any, deadline: int, is_over: bool
) -> None:
    given = in_set("a", deadline=deadline)
    load(redis, given)
    assert broker.run(aggregation.reclaim_set("q", SET, NOW)) == 0
    then = {"g:g": Zset(a=NOW), "groups": {"g"}, "t:a": member("a")}
    assert dump(redis) == (then if is_over else given)


def test_a_set_that_is_half_put_back_cannot_be_finished(broker: Any, redis: Any) -> None:
    load(redis, in_set("a", "b", "c"))
    assert broker.run(aggregation.reclaim_set("q", SET, limit=2)) == 1
    half = {
        "g:g": Zset(a=NOW, b=NOW),
        "groups": {"g"},
        "g:g:s": Zset(c=NOW),
        "aggregation_sets": Zset({KEY: 0}),
        **{f"t:{i}": member(i) for i in "abc"},
    }
    assert dump(redis) == half
    assert broker.run(aggregated()) is None
    assert broker.run(aggregation.extend_set("q", SET, UNTIL)) is False
    assert dump(redis) == half
    assert broker.run(aggregation.reclaim_set("q", SET, NOW)) == 0
    assert dump(redis)["g:g"] == Zset(a=NOW, b=NOW, c=NOW)


def test_a_deadline_is_moved_by_its_holder(broker: Any, redis: Any) -> None:
    load(redis, in_set("a"))
    assert broker.run(aggregation.extend_set("q", SET, UNTIL + 60)) is True
    assert dump(redis) == in_set("a", deadline=UNTIL + 60)


@pytest.mark.usefixtures("odd_store")
def test_a_set_of_nothing_is_dropped(broker: Any, redis: Any) -> None:
    load(redis, {"aggregation_sets": Zset({KEY: 1}), "g:g:s": Zset(gone=NOW)})
    assert broker.run(aggregation.reclaim_set("q", SET, NOW)) == 0
    assert dump(redis) == {}
    load(redis, {"aggregation_sets": Zset({KEY: 1})})
    assert broker.run(aggregation.reclaim_set("q", SET, NOW)) == 0
    assert dump(redis) == {}


@pytest.mark.parametrize(
    ("key", "found"),
    [
        (KEY, SET),
        ("asynq:{q}:g:a:b:s", Set("a:b", "s")),
        ("asynq:{other}:g:g:s", None),
        ("asynq:{q}:g:s", None),
        ("asynq:{q}:g::s", None),
        (b"asynq:{q}:g:\xff:s", None),
    ],
)
def test_a_set_is_known_by_its_key(key: Any, found: Set | None) -> None:
    assert aggregation.set_of("q", key.encode() if isinstance(key, str) else key) == found


# --- Names that were lost ------------------------------------------------------------------------


def test_names_are_noted_for_the_latest_time(broker: Any, redis: Any) -> None:
    assert broker.run(aggregation.note_groups("q", ["g", "ü h"], NOW_MS)) == 2
    assert broker.run(aggregation.note_groups("q", ["g"], NOW_MS + 5_000)) == 0
    assert broker.run(aggregation.note_groups("q", ["g"], NOW_MS - 5_000)) == 0
    assert dump(redis) == {"own:group_names": Zset({"g": NOW + 5, "ü h": NOW})}


def test_lost_names_are_restored_and_old_ones_forgotten(broker: Any, redis: Any) -> None:
    kept = aggregation.NAME_SECONDS
    names = {"g": NOW - 2 * kept, "empty": NOW - kept - 1, "used": NOW - kept, "later": NOW + 9}
    load(redis, {"own:group_names": Zset(names), "g:g": Zset(a=NOW), "t:a": member("a")})
    assert broker.run(aggregation.restore_groups("q", 0, NOW_MS)) is None
    del names["empty"]
    then = {"own:group_names": Zset(names), **group(a=NOW_MS)}
    assert dump(redis) == then
    assert broker.run(aggregation.restore_groups("q", 0, NOW_MS)) is None
    assert dump(redis) == then


def test_names_are_looked_at_in_slices(broker: Any, redis: Any) -> None:
    old = {f"old{i}": NOW - 2 * aggregation.NAME_SECONDS for i in range(4)}
    load(redis, {"own:group_names": Zset({**old, "k": NOW, "g": NOW}), "g:g": Zset(a=NOW)})
    load(redis, {"t:a": member("a")})
    start, looks = 0, 0
    while start is not None:
        start, looks = (
            broker.run(aggregation.restore_groups("q", start, NOW_MS, limit=2)),
            looks + 1,
        )
    assert looks == 4
    assert dump(redis)["own:group_names"] == Zset(k=NOW, g=NOW)
    assert dump(redis)["groups"] == {"g"}


# --- Taken out of a group ------------------------------------------------------------------------


@pytest.mark.parametrize("by_go", [False, True])
def test_a_task_that_an_inspector_took_out_of_its_group_is_retried_alone(
    broker: Any, redis: Any, by_go: bool
) -> None:
    given = fetched(active("a", {"group": "g"}, group_key="g"))
    load(redis, given)
    msg = encoded("a", group_key="g")
    assert broker.run(failure_commands.retry("q", failure("a"), msg, NOW_MS, NOW_MS, WHO))
    assert "group" not in dump(redis)["t:a"]
    if by_go:
        assert AsynqPeer(redis).forward(NOW + 1) == 1
    else:
        assert broker.run(maintenance.forward("q", NOW_MS + 1_000)).moved == 1
    assert dump(redis)["t:a"]["state"] == "pending"


# --- With programs in Go -------------------------------------------------------------------------


def test_go_aggregates_what_we_put_into_a_group(broker: Any, redis: Any) -> None:
    peer = AsynqPeer(redis)
    broker.enqueue(EnqueueRequest("q", [new("a"), new("b")], group="g"))
    assert not peer.check_group("g", "s", NOW + 59)
    assert peer.check_group("g", "s", NOW + 60)
    read, deadline = peer.read_set("g", "s")
    assert read == [new("a").msg, new("b").msg]
    assert deadline == NOW + 180
    peer.delete_set("g", "s")
    assert dump(redis, ("own:events", "asynq:queues")) == {}


def test_we_aggregate_what_go_put_into_a_group(broker: Any, redis: Any) -> None:
    peer = AsynqPeer(redis)
    assert peer.add_to_group("a", encoded("a"), "g", NOW) == 1
    ripe_at = NOW * 1000 + 60_000
    assert broker.run(aggregation.aggregation_due("q", ["g"], MINUTE)) == [ripe_at]
    taken = broker.run(aggregation.form_set("q", SET, MINUTE, ripe_at, NOW + 180))
    assert taken == Taken(1, None)
    assert broker.run(aggregation.read_set("q", SET, 0)) == [NewTask("a", encoded("a"))]
    assert broker.run(aggregated()) == Aggregated("ENQUEUED", "")
    assert peer.dequeue(NOW + 61) == encoded("x")


def test_go_puts_back_our_set_and_we_put_back_theirs(broker: Any, redis: Any) -> None:
    peer = AsynqPeer(redis)
    load(redis, in_set("a", deadline=NOW))
    assert peer.reclaim(NOW) == 1
    assert "groups" not in dump(redis)
    assert broker.run(aggregated()) is None
    assert broker.run(aggregation.note_groups("q", ["g"], NOW_MS)) == 1
    assert broker.run(aggregation.restore_groups("q", 0, NOW_MS)) is None
    assert dump(redis, ("own:group_names",)) == {
        "g:g": Zset(a=NOW),
        "groups": {"g"},
        "t:a": member("a"),
    }
    assert peer.check_group("g", "s", NOW, size=1)
    assert broker.run(aggregation.reclaim_set("q", SET, NOW + 120)) == 0
    assert dump(redis)["groups"] == {"g"}
