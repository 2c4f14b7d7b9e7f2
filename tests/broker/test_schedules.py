"""put, fire, pause and remove a schedule, and what is stored then."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Stream, Until, Zset, dump, load, task
from transitions import active, events, fetched

from nbqueue.broker.commands.schedules import (
    Due,
    Fired,
    Skip,
    fire_schedule,
    pause_schedule,
    put_schedule,
    remove_schedule,
)
from nbqueue.tasks.new_task import NewTask
from nbqueue.wire.messages import TaskMessage
from nbqueue.wire.schedule_record import ScheduleEntry, encode_entry

MESSAGE = TaskMessage(type="t", payload=b"p", queue="q", retry=3, timeout=1800)
ENTRY = ScheduleEntry("s", "@every 1m", "UTC", MESSAGE.SerializeToString(), "", "aaaaaa")
DUE = NOW_MS - 23
NEXT = DUE + 60_000
CODE = b"0123456789abcdef"
LOCK = "asynq:{q}:unique:t:d"


def kept(due: int | None = DUE, entry: ScheduleEntry = ENTRY, **state: Any) -> dict[str, Any]:
    """The keys of a schedule."""
    found: dict[str, Any] = {
        "own:schedules": {"s": encode_entry(entry).decode()},
        "own:schedule_state:s": {"revision": entry.revision}
        | {k: str(v) for k, v in state.items()},
    }
    if due is not None:
        found["own:schedule_due"] = Zset(s=due)
    return found


def noted(outcome: str, detail: str = "", due: Any = DUE, task_id: str = "") -> dict[str, str]:
    return {
        "at": str(NOW_MS),
        "due": str(due),
        "outcome": outcome,
        "task_id": task_id,
        "detail": detail,
    }


def history(*entries: dict[str, str]) -> dict[str, Any]:
    return {"own:schedule_history:s": Stream(entries)}


def msg(task_id: str, **fields: Any) -> bytes:
    made = TaskMessage()
    made.CopyFrom(MESSAGE)
    made.id = task_id
    for name, value in fields.items():
        setattr(made, name, value)
    return made.SerializeToString(deterministic=True)


def fire(
    task_id: str = "a",
    expected: int | None = DUE,
    following: int | None = NEXT,
    entry: ScheduleEntry = ENTRY,
    **more: Any,
) -> Any:
    new = NewTask(task_id, msg(task_id, unique_key=more.get("lock", "")))
    return fire_schedule("q", entry, new, NOW_MS, due=Due(expected, following), **more)


def pending(task_id: str, more: dict[str, Any] | None = None, **fields: Any) -> Any:
    own = {"pending_since": NOW_MS * 1_000_000, **(more or {})}
    return task(task_id, "pending", own, **fields)


# --- Keeping ---


def test_put(broker: Any, redis: Any) -> None:
    assert broker.run(put_schedule("q", ENTRY, DUE, NOW_MS)) is True
    assert dump(redis) == kept()


def test_put_with_code_and_never_due(broker: Any, redis: Any) -> None:
    put = put_schedule("q", ENTRY, None, NOW_MS, fingerprint=CODE, blob=b"blob")
    assert broker.run(put) is True
    assert dump(redis) == {
        **kept(None),
        "own:codes": Zset({CODE.hex(): NOW_MS}),
        f"own:code:{CODE.hex()}": "blob",
    }


def test_put_again_keeps_what_was_and_begins_its_times_anew(broker: Any, redis: Any) -> None:
    load(redis, kept(prev=1, last="z", runs=3, paused=1) | history(noted("paused")))
    new = ENTRY.changed(spec="@hourly", revision="bbbbbb")
    put = put_schedule("q", new, NEXT, NOW_MS, seen_revision="aaaaaa")
    assert broker.run(put) is True
    after = kept(NEXT, new, prev=1, last="z", paused=1) | history(noted("paused"))
    assert dump(redis) == after
    assert broker.run(put) is True  # a repeat
    assert dump(redis) == after


def test_put_again_with_the_same_times_puts_nothing_off(broker: Any, redis: Any) -> None:
    load(redis, kept(runs=3))
    new = ENTRY.changed(revision="bbbbbb")
    broker.run(put_schedule("q", new, NEXT, NOW_MS, seen_revision="aaaaaa", keeps_due=True))
    assert dump(redis) == kept(DUE, new, runs=3)


@pytest.mark.parametrize("seen", ["", "cccccc"])
def test_put_over_what_the_caller_did_not_see_is_refused(
    broker: Any, redis: Any, seen: str
) -> None:
    load(redis, kept())
    new = ENTRY.changed(revision="bbbbbb")
    assert broker.run(put_schedule("q", new, NEXT, NOW_MS, seen_revision=seen)) is False
    assert dump(redis) == kept()


def test_remove_leaves_nothing_of_it(broker: Any, redis: Any) -> None:
    load(redis, kept(last="z") | history(noted("paused")))
    assert broker.run(remove_schedule("q", "s", "bbbbbb")) is False
    assert broker.run(remove_schedule("q", "s")) is True
    assert dump(redis) == {}
    assert broker.run(remove_schedule("q", "s")) is False


def test_pause_and_resume(broker: Any, redis: Any) -> None:
    assert broker.run(pause_schedule("q", "s", True, NOW_MS)) is False
    assert dump(redis) == {}
    load(redis, kept())
    assert broker.run(pause_schedule("q", "s", True, NOW_MS)) is True
    assert broker.run(pause_schedule("q", "s", True, NOW_MS + 5)) is True
    assert dump(redis) == kept(paused=NOW_MS)
    assert broker.run(pause_schedule("q", "s", False, NOW_MS)) is True
    assert dump(redis) == kept()


@pytest.mark.parametrize(
    "command",
    [
        put_schedule("q", ENTRY, DUE, NOW_MS),
        remove_schedule("q", "s"),
        pause_schedule("q", "s", True, NOW_MS),
    ],
    ids=lambda each: each.script.name,
)
def test_workers_are_told(broker: Any, redis: Any, command: Any) -> None:
    if command.script.name != "put_schedule":
        load(redis, kept())
    with redis.pubsub() as listener:
        listener.subscribe("nbqueue:{q}:wake")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        broker.run(command)
        assert listener.get_message(timeout=5)["data"] == b"schedules"


# --- Firing ---


def test_fire(broker: Any, redis: Any) -> None:
    load(redis, kept())
    assert broker.run(fire()) == Fired("ENQUEUED", NEXT)
    after = {
        **kept(NEXT, last="a", prev=DUE, runs=1),
        "pending": ["a"],
        "t:a": pending("a"),
        **events(("enqueued", "a")),
        **history(noted("enqueued", task_id="a")),
    }
    assert dump(redis) == after
    # A repeat, and a scheduler that comes later.
    assert broker.run(fire()) == Fired("STALE", NEXT)
    assert broker.run(fire("b")) == Fired("STALE", NEXT)
    assert dump(redis) == after


def test_a_time_is_fired_only_as_the_schedule_is_now(broker: Any, redis: Any) -> None:
    load(redis, kept())
    old = ENTRY.changed(revision="bbbbbb")
    assert broker.run(fire(entry=old)) == Fired("STALE", DUE)
    assert broker.run(fire(expected=DUE - 1)) == Fired("STALE", DUE)
    assert broker.run(fire(entry=old, expected=None)) == Fired("STALE", DUE)
    assert dump(redis) == kept()
    redis.flushall()
    assert broker.run(fire()) == Fired("GONE", None)
    assert dump(redis) == {}


def test_the_last_time_leaves_nothing_due(broker: Any, redis: Any) -> None:
    load(redis, kept())
    assert broker.run(fire(following=None)) == Fired("ENQUEUED", None)
    assert "own:schedule_due" not in dump(redis)


def test_the_last_run_allowed_leaves_nothing_due(broker: Any, redis: Any) -> None:
    entry = ENTRY.changed(max_runs=2)
    load(redis, kept(entry=entry))
    assert broker.run(fire(entry=entry)) == Fired("ENQUEUED", NEXT)
    assert broker.run(fire("b", NEXT, NEXT + 1, entry)) == Fired("ENQUEUED", None)
    assert broker.run(fire("c", NEXT + 1, NEXT + 2, entry)) == Fired("STALE", None)
    assert "own:schedule_due" not in dump(redis)


@pytest.mark.parametrize(("reason", "detail"), [("missed", "3 missed"), ("error", "not signed")])
def test_the_caller_may_say_why_not(broker: Any, redis: Any, reason: str, detail: str) -> None:
    load(redis, kept())
    assert broker.run(fire(skip=Skip(reason, detail))) == Fired(reason, NEXT)
    assert dump(redis) == kept(NEXT) | history(noted(reason, detail))


def test_a_paused_one_passes_its_times_over(broker: Any, redis: Any) -> None:
    load(redis, kept(paused=1))
    assert broker.run(fire()) == Fired("paused", NEXT)
    assert dump(redis) == kept(NEXT, paused=1) | history(noted("paused"))


@pytest.mark.parametrize("overlap", [True, False])
def test_with_no_overlap_a_time_is_passed_over_while_the_last_task_goes_on(
    broker: Any, redis: Any, overlap: bool
) -> None:
    entry = ENTRY.changed(overlap=overlap)
    load(redis, kept(entry=entry, last="z") | fetched(active("z")))
    if overlap:
        assert broker.run(fire(entry=entry)) == Fired("ENQUEUED", NEXT)
        return
    assert broker.run(fire(entry=entry)) == Fired("overlap", NEXT)
    assert dump(redis) == {
        **kept(NEXT, entry, last="z"),
        **fetched(active("z")),
        **history(noted("overlap", "z")),
    }


@pytest.mark.parametrize("state", ["completed", "archived", None])
def test_a_task_that_ended_does_not_overlap(broker: Any, redis: Any, state: str | None) -> None:
    entry = ENTRY.changed(overlap=False)
    load(redis, kept(entry=entry, last="z"))
    if state:
        load(redis, {state: Zset(z=1), "t:z": task("z", state)})
    assert broker.run(fire(entry=entry)) == Fired("ENQUEUED", NEXT)


def test_an_id_that_exists_is_left_as_it_is(broker: Any, redis: Any) -> None:
    there = {"pending": ["a"], "t:a": pending("a", type="other")}
    load(redis, kept() | there)
    assert broker.run(fire()) == Fired("exists", NEXT)
    assert dump(redis) == kept(NEXT) | there | history(noted("exists", "a"))


def test_a_call_whose_code_is_gone_is_not_enqueued(broker: Any, redis: Any) -> None:
    load(redis, kept())
    assert broker.run(fire(fingerprint=CODE)) == Fired("code", NEXT)
    assert dump(redis) == kept(NEXT) | history(noted("code"))
    load(redis, {f"own:code:{CODE.hex()}": "blob"})
    assert broker.run(fire("b", NEXT, NEXT + 1, fingerprint=CODE)).word == "ENQUEUED"
    assert dump(redis)["own:codes"] == Zset({CODE.hex(): NOW_MS})


def test_a_unique_run_takes_the_lock_and_keeps_the_next_away(broker: Any, redis: Any) -> None:
    entry = ENTRY.changed(unique_ms=60_000)
    load(redis, kept(entry=entry))
    assert broker.run(fire(entry=entry, lock=LOCK)) == Fired("ENQUEUED", NEXT)
    found = dump(redis)
    assert found["t:a"] == pending("a", {"unique_key": LOCK, "nbq:unique": 60_000}, unique_key=LOCK)
    assert isinstance(found["unique:t:d"], Until)
    assert found["unique:t:d"].value == "a"
    assert broker.run(fire("b", NEXT, NEXT + 1, entry, lock=LOCK)) == Fired("unique", NEXT + 1)
    assert "t:b" not in dump(redis)
    # A lock whose task is gone is taken over.
    redis.delete("asynq:{q}:t:a", "asynq:{q}:pending")
    assert broker.run(fire("c", NEXT + 1, NEXT + 2, entry, lock=LOCK)).word == "ENQUEUED"
    assert dump(redis)["unique:t:d"].value == "c"


def test_a_name_finds_the_newest(broker: Any, redis: Any) -> None:
    entry = ENTRY.changed(name="n", name_seconds=100)
    load(redis, kept(entry=entry))
    broker.run(fire(entry=entry))
    assert dump(redis)["own:name:n"].value == "a"


def test_by_hand_it_runs_though_paused_and_stays_due(broker: Any, redis: Any) -> None:
    entry = ENTRY.changed(overlap=False, max_runs=1)
    load(redis, kept(entry=entry, paused=1, last="z", runs=1) | fetched(active("z")))
    assert broker.run(fire(entry=entry, expected=None)) == Fired("ENQUEUED", DUE)
    assert dump(redis) == {
        **kept(DUE, entry, paused=1, last="a", runs=1, prev=NOW_MS),
        **fetched(active("z")),
        "pending": ["a"],
        "t:a": pending("a"),
        **events(("enqueued", "a")),
        **history(noted("enqueued", due="", task_id="a")),
    }


def test_history_has_a_cap(broker: Any, redis: Any) -> None:
    load(redis, kept(paused=1))
    key = "nbqueue:{q}:schedule_history:s"
    pipe = redis.pipeline()
    for _ in range(3000):
        pipe.xadd(key, {"a": "b"})
    pipe.execute()
    broker.run(fire())
    assert redis.xlen(key) <= 1100


@pytest.mark.parametrize(
    "key", ["own:schedules", "own:schedule_due", "own:schedule_state:s", "own:schedule_history:s",
            "pending", "own:events", "own:codes"],
)  # fmt: skip
def test_what_is_no_such_key_stops_it_before_it_writes(
    broker: Any, redis: Any, odd_store: None, key: str
) -> None:
    from nbqueue.errors import StoreError

    content = kept()
    content[key] = "odd"
    load(redis, content)
    before = dump(redis)
    with pytest.raises(StoreError):
        broker.run(fire())
    assert dump(redis) == before


def test_all_keys_share_the_slot_of_the_queue() -> None:
    for command in (
        fire(lock=LOCK, fingerprint=CODE),
        fire(),
        put_schedule("q", ENTRY, DUE, NOW_MS, fingerprint=CODE),
        remove_schedule("q", "s"),
        pause_schedule("q", "s", True, NOW_MS),
    ):
        assert all(key.startswith(("asynq:{q}:", "nbqueue:{q}:")) for key in command.keys)
