"""run, archive, delete and reschedule by hand, from every state."""

from __future__ import annotations

import random
from typing import Any

import pytest
from asynq_peer import AsynqPeer
from keyspace import NOW_MS, Until, Zset, check_invariants, dump, encoded, load, message, task
from transitions import NOW, active, events, fetched

from nbqueue.broker.commands import inspect, lifecycle, maintenance
from nbqueue.broker.commands.inspect import Moved, ToRun
from nbqueue.errors import StoreError

SINCE = NOW_MS * 1_000_000
DONE = Moved({})
LOCK = "asynq:{q}:unique:t:83878c91171338902e0fe0fb97a8c47a"
SHORT = LOCK.removeprefix("asynq:{q}:")

PLACES: dict[str, dict[str, Any]] = {
    "pending": {"pending": ["z", "a"], "t:a": task("a", "pending", {"pending_since": 1})},
    "scheduled": {
        "scheduled": Zset(a=NOW + 9, z=NOW + 9),
        "t:a": task("a", "scheduled", {"nbq:due": NOW_MS + 8_000}),
    },
    "retry": {
        "retry": Zset(a=NOW + 9, z=NOW + 9),
        "t:a": task("a", "retry", {"nbq:error": b"E"}, retried=1, error_msg="boom"),
    },
    "archived": {
        "archived": Zset(a=NOW - 9, z=NOW - 9),
        # As a program in Go leaves it: since when it was pending stays there.
        "t:a": task("a", "archived", {"pending_since": 1}, retried=3, error_msg="boom"),
    },
    "completed": {
        "completed": Zset(a=NOW + 9, z=NOW + 9),
        "t:a": task("a", "completed", {"result": b"r"}, completed_at=NOW - 1),
    },
    "aggregating": {
        "g:g": Zset(a=NOW, z=NOW),
        "groups": {"g"},
        "t:a": task("a", "aggregating", {"group": "g"}, group_key="g"),
    },
}
_MORE = {"pending": {"pending_since": 1}, "aggregating": {"group": "g"}}


def lying(state: str) -> dict[str, Any]:
    """Task a in this state, and a neighbour z in the same place."""
    return {**PLACES[state], "t:z": task("z", state, _MORE.get(state))}


def without_a(state: str) -> dict[str, Any]:
    """Return the content of the store without task a."""
    left: dict[str, Any] = {}
    for name, value in lying(state).items():
        if isinstance(value, Zset):
            left[name] = Zset({i: score for i, score in value.items() if i != "a"})
        elif isinstance(value, list):
            left[name] = [i for i in value if i != "a"]
        elif name != "t:a":
            left[name] = value
    return left


def hash_of_a(state: str, then: str, more: dict[str, Any], without: tuple[str, ...]) -> Any:
    found = {**PLACES[state]["t:a"], "state": then, **more}
    return {"t:a": {name: value for name, value in found.items() if name not in without}}


# --- run -----------------------------------------------------------------------------------------

RUNNABLE = ["scheduled", "retry", "archived", "completed", "aggregating"]


def run(*ids: str, **more: Any) -> Any:
    return inspect.run("q", [ToRun(i) for i in ids], NOW_MS, **more)


@pytest.mark.parametrize("state", RUNNABLE)
def test_run_puts_a_task_to_the_end_of_the_line(broker: Any, redis: Any, state: str) -> None:
    first = {"pending": ["p"], "t:p": task("p", "pending", {"pending_since": 1})}
    load(redis, {**lying(state), **first})
    assert broker.run(run("a", wanted=state)) == DONE
    then = {
        **without_a(state),
        "pending": ["a", "p"],
        "t:p": first["t:p"],
        **hash_of_a(state, "pending", {"pending_since": SINCE}, ("group",)),
        **events(("enqueued", "a")),
    }
    assert dump(redis) == then
    assert broker.run(run("a")) == Moved({0: "pending"})
    assert dump(redis) == then


def test_a_task_that_runs_again_loses_the_preview_of_its_result(broker: Any, redis: Any) -> None:
    load(redis, lying("completed"))
    redis.hset("asynq:{q}:t:a", "nbq:preview", b"p")
    assert broker.run(run("a")) == DONE
    assert not redis.hexists("asynq:{q}:t:a", "nbq:preview")


def test_the_first_that_is_run_is_the_first_in_the_line(broker: Any, redis: Any) -> None:
    load(redis, lying("retry"))
    assert broker.run(run("z", "a")) == DONE
    found = broker.run(lifecycle.fetch("q", 9, NOW_MS, NOW_MS + 1, "t"))
    assert [each.task_id for each in found] == ["z", "a"]


def test_the_last_one_of_a_group_takes_its_name_along(broker: Any, redis: Any) -> None:
    load(redis, {"g:g": Zset(a=NOW), "groups": {"g", "h"}, "g:h": Zset(h=NOW),
                 "t:h": task("h", "aggregating", {"group": "h"}),
                 "t:a": task("a", "aggregating", {"group": "g"})})  # fmt: skip
    assert broker.run(run("a")) == DONE
    assert dump(redis)["groups"] == {"h"}


def test_a_task_of_a_group_that_was_run_alone_does_not_go_back_to_it(
    broker: Any, redis: Any
) -> None:
    load(redis, lying("aggregating"))
    broker.run(run("a"))
    peer = AsynqPeer(redis)
    peer.dequeue(NOW)
    peer.retry("a", encoded("a"), NOW)
    assert broker.run(maintenance.forward("q", NOW_MS + 1_000)).moved == 1
    assert dump(redis)["pending"] == ["a"]


def test_run_as_if_it_had_never_failed(broker: Any, redis: Any) -> None:
    failed = task("a", "archived", {"nbq:lost": 2, "nbq:attempt": 4, "nbq:error": b"E"}, retried=3)
    load(redis, {"archived": Zset(a=NOW), "t:a": failed})
    new = ToRun("a", encoded("a", retried=3), encoded("a"))
    assert broker.run(inspect.run("q", [new], NOW_MS, reset=True)) == DONE
    assert dump(redis) == {
        "pending": ["a"],
        "t:a": task("a", "pending", {"pending_since": SINCE, "nbq:attempt": 4}),
        **events(("enqueued", "a")),
    }


def test_a_message_that_changed_meanwhile_is_not_overwritten(broker: Any, redis: Any) -> None:
    load(redis, lying("archived"))
    before = dump(redis)
    new = ToRun("a", encoded("a", retried=2), encoded("a"))
    command = inspect.run("q", [new], NOW_MS, reset=True)
    assert broker.run(command) == Moved({0: "CHANGED"})
    assert dump(redis) == before


def test_a_lock_that_was_lost_is_taken_again_if_it_is_free(broker: Any, redis: Any) -> None:
    own = {"unique_key": LOCK, "nbq:unique": 3_600_000}
    unique = task("a", "archived", own, unique_key=LOCK)
    load(redis, {"archived": Zset(a=NOW), "t:a": unique})
    broker.run(run("a"))
    assert redis.get(LOCK) == b"a"
    assert round(redis.pttl(LOCK) / 1000) == 3600
    load(redis, {"archived": Zset(b=NOW), "t:b": {**unique, "msg": message("b", unique_key=LOCK)}})
    broker.run(run("b"))
    assert redis.get(LOCK) == b"a"


# --- archive -------------------------------------------------------------------------------------

ARCHIVABLE = ["pending", "scheduled", "retry", "completed", "aggregating"]


def archive(*ids: str, **more: Any) -> Any:
    return inspect.archive_by_hand("q", ids, NOW_MS, **more)


@pytest.mark.parametrize("state", ARCHIVABLE)
def test_archive_keeps_a_task_as_it_is(broker: Any, redis: Any, state: str) -> None:
    load(redis, lying(state))
    assert broker.run(archive("a", wanted=state)) == DONE
    then = {
        **without_a(state),
        "archived": Zset(a=NOW),
        **hash_of_a(state, "archived", {}, ()),
        **events(("archived", "a")),
    }
    assert dump(redis) == then
    assert broker.run(archive("a")) == Moved({0: "archived"})
    assert dump(redis) == then


def full(number: int) -> dict[str, Any]:
    """An archive with so many tasks, the oldest first."""
    ids = [f"x{i:03}" for i in range(number)]
    return {
        "archived": Zset({i: NOW - number + n for n, i in enumerate(ids)}),
        **{f"t:{i}": task(i, "archived") for i in ids},
    }


def waiting(number: int) -> dict[str, Any]:
    ids = [f"p{i:03}" for i in range(number)]
    return {
        "pending": ids[::-1],
        **{f"t:{i}": task(i, "pending", {"pending_since": 1}) for i in ids},
    }


def test_a_full_archive_drops_its_oldest_and_says_so(broker: Any, redis: Any) -> None:
    load(redis, {**full(5), **waiting(2)})
    assert broker.run(archive("p000", "p001", most=5)) == Moved({}, 2)
    content = dump(redis)
    assert content["archived"] == Zset(x002=NOW - 3, x003=NOW - 2, x004=NOW - 1, p000=NOW, p001=NOW)
    assert "t:x001" not in content
    assert content["own:trimmed"] == "2"
    assert (
        content["own:events"]
        == events(("trimmed", "x000 x001"), ("archived", "p000 p001"))["own:events"]
    )


def test_of_more_than_the_archive_keeps_the_rest_is_dropped_and_counted(
    broker: Any, redis: Any
) -> None:
    load(redis, {**full(2), **waiting(5), "own:settings": {"archive_max": "3"}})
    assert broker.run(archive(*(f"p{i:03}" for i in range(5)))) == Moved({}, 4)
    content = dump(redis)
    assert content["archived"] == Zset(p002=NOW, p003=NOW, p004=NOW)
    assert content["own:trimmed"] == "4"
    assert sum(name.startswith("t:") for name in content) == 3


def test_the_settings_of_the_queue_say_for_how_long_as_well(broker: Any, redis: Any) -> None:
    load(redis, {**full(0), **waiting(1), "archived": Zset(o=NOW - 86_401, y=NOW - 86_399),
                 "t:o": task("o", "archived"), "t:y": task("y", "archived"),
                 "own:settings": {"archive_days": "1"}})  # fmt: skip
    assert broker.run(archive("p000")) == Moved({}, 1)
    assert dump(redis)["archived"] == Zset(y=NOW - 86_399, p000=NOW)


@pytest.mark.parametrize("odd", [{"archive_max": "many"}, "text"])
@pytest.mark.usefixtures("odd_store")
def test_settings_that_make_no_sense_are_as_none(broker: Any, redis: Any, odd: Any) -> None:
    load(redis, {**full(1), **waiting(1), "own:settings": odd})
    assert broker.run(archive("p000")) == DONE


# --- delete --------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", PLACES)
def test_delete_takes_a_task_with_all_that_it_holds(broker: Any, redis: Any, state: str) -> None:
    load(redis, lying(state))
    command = inspect.delete("q", ["a"], NOW_MS, wanted=state)
    assert broker.run(command) == DONE
    then = {**without_a(state), **events(("deleted", "a"))}
    assert dump(redis) == then
    assert broker.run(command) == Moved({0: "MISSING"})
    assert dump(redis) == then


# --- reschedule ----------------------------------------------------------------------------------

DUE = NOW_MS + 60_500
SCORE = NOW + 61


def reschedule(*ids: str, **more: Any) -> Any:
    return inspect.reschedule("q", ids, DUE, NOW_MS, **more)


@pytest.mark.parametrize("state", ["pending", "scheduled", "archived", "completed"])
def test_reschedule_makes_a_task_scheduled(broker: Any, redis: Any, state: str) -> None:
    load(redis, lying(state))
    assert broker.run(reschedule("a", wanted=state)) == DONE
    left = without_a(state)
    then = {
        **left,
        "scheduled": Zset({**left.get("scheduled", {}), "a": SCORE}),
        **hash_of_a(state, "scheduled", {"nbq:due": DUE}, ("pending_since",)),
        **events(("scheduled", "a")),
    }
    assert dump(redis) == then


def test_what_waits_for_a_retry_goes_on_waiting_for_it(broker: Any, redis: Any) -> None:
    load(redis, lying("retry"))
    assert broker.run(reschedule("a")) == DONE
    assert dump(redis) == {
        **lying("retry"),
        "retry": Zset(a=SCORE, z=NOW + 9),
        **hash_of_a("retry", "retry", {"nbq:due": DUE}, ()),
        **events(("rescheduled", "a")),
    }


def test_a_rescheduled_task_is_due_at_its_new_time_and_not_before(broker: Any, redis: Any) -> None:
    load(redis, lying("scheduled"))
    broker.run(reschedule("a"))
    assert broker.run(maintenance.forward("q", NOW_MS + 10_000)).moved == 1  # the other one
    assert broker.run(maintenance.forward("q", DUE - 1)).moved == 0
    assert broker.run(maintenance.forward("q", DUE)).moved == 1


def test_workers_are_told_when_to_look(broker: Any, redis: Any) -> None:
    load(redis, lying("retry"))
    with redis.pubsub() as listener:
        listener.subscribe("nbqueue:{q}:wake")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        broker.run(reschedule("a"))
        assert listener.get_message(timeout=5)["data"] == f"due {DUE}".encode()


# --- What all of them have in common -------------------------------------------------------------

ALL = {
    "run": run,
    "archive": archive,
    "delete": lambda *ids, **more: inspect.delete("q", ids, NOW_MS, **more),
    "reschedule": reschedule,
}


@pytest.mark.parametrize("name", ALL)
def test_what_runs_is_left_to_its_worker(broker: Any, redis: Any, name: str) -> None:
    load(redis, fetched(active("a")))
    before = dump(redis)
    assert broker.run(ALL[name]("a", "x")) == Moved({0: "active", 1: "MISSING"})
    assert dump(redis) == before


@pytest.mark.parametrize("name", ALL)
def test_of_many_those_that_cannot_be_moved_are_told_and_the_others_are_moved(
    broker: Any, redis: Any, name: str
) -> None:
    load(redis, {**lying("retry"), **fetched(active("b"))})
    ids = ["x", "a", "b", "a", "z"]
    moved = broker.run(ALL[name](*ids))
    assert moved == Moved({0: "MISSING", 2: "active"})
    assert {"a", "z"}.isdisjoint(dump(redis).get("retry", {})) == (name != "reschedule")


@pytest.mark.parametrize("name", ALL)
def test_only_the_state_that_is_meant_is_left(broker: Any, redis: Any, name: str) -> None:
    load(redis, lying("retry"))
    before = dump(redis)
    assert broker.run(ALL[name]("a", wanted="scheduled")) == Moved({0: "retry"})
    assert dump(redis) == before


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize("name", ["run", "archive", "delete"])
def test_a_task_that_is_being_aggregated_is_left_alone(broker: Any, redis: Any, name: str) -> None:
    load(redis, {"g:g:1": Zset(a=NOW), "aggregation_sets": Zset({"asynq:{q}:g:g:1": NOW}),
                 "t:a": task("a", "aggregating", {"group": "g"})})  # fmt: skip
    before = dump(redis)
    assert broker.run(ALL[name]("a")) == Moved({0: "MISPLACED"})
    load(redis, {"g:g": "text"})
    assert broker.run(ALL[name]("a")) == Moved({0: "MISPLACED"})
    redis.delete("asynq:{q}:g:g")
    assert dump(redis) == before


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize("name", ALL)
def test_a_state_that_lies_and_a_key_that_is_no_task(broker: Any, redis: Any, name: str) -> None:
    load(redis, {"t:a": task("a", "retry"), "t:b": "text", "t:c": {"state": "retry"},
                 "t:d": task("d", "waiting")})  # fmt: skip
    before = dump(redis)
    assert broker.run(ALL[name]("a", "b", "c", "d")) == Moved(
        {0: "MISPLACED", 1: "MISSING", 2: "MISSING", 3: "waiting"}
    )
    assert dump(redis) == before


@pytest.mark.parametrize(("name", "kept"), [("archive", False), ("delete", False),
                                            ("archive", True), ("delete", True)])  # fmt: skip
@pytest.mark.parametrize("own", [{"unique_key": LOCK}, {}])
def test_the_lock_goes_with_the_task_unless_it_is_to_be_kept(
    broker: Any, redis: Any, name: str, kept: bool, own: dict[str, Any]
) -> None:
    # Programs in Go name the lock of a task of a group in its message only.
    waits = task("a", "aggregating", {"group": "g", **own}, unique_key=LOCK)
    load(redis, {"g:g": Zset(a=NOW), "groups": {"g"}, "t:a": waits, SHORT: Until("a", NOW)})
    assert broker.run(ALL[name]("a", keep_lock=kept)) == DONE
    assert redis.exists(LOCK) == kept
    redis.delete(LOCK)


@pytest.mark.parametrize("name", ["archive", "delete"])
def test_the_lock_of_another_stays(broker: Any, redis: Any, name: str) -> None:
    waits = task("a", "scheduled", {"unique_key": LOCK}, unique_key=LOCK)
    load(redis, {"scheduled": Zset(a=NOW), "t:a": waits, SHORT: Until("b", NOW)})
    broker.run(ALL[name]("a"))
    assert redis.get(LOCK) == b"b"


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize("odd", ["pending", "scheduled", "retry", "archived", "completed",
                                 "groups", "own:events"])  # fmt: skip
@pytest.mark.parametrize("name", ALL)
def test_a_key_of_another_kind_stops_it_before_it_writes(
    broker: Any, redis: Any, name: str, odd: str
) -> None:
    load(redis, {**lying("retry"), odd: "text"} if odd != "retry" else {odd: "text"})
    before = dump(redis)
    with pytest.raises(StoreError):
        broker.run(ALL[name]("a"))
    assert dump(redis) == before


def test_a_command_takes_so_many_and_no_more(broker: Any) -> None:
    for name in ALL:
        for ids in ([], ["x"] * 501):
            with pytest.raises(ValueError, match="1 to 500"):
                ALL[name](*ids)
        assert len(broker.run(ALL[name](*map(str, range(500)))).refused) == 500


@pytest.mark.parametrize(
    ("name", "length", "number"),
    [
        ("archive", 30, 8),
        ("delete", 30, 9),
        ("reschedule", 30, 30),
        ("archive", 1_000, 20),
        ("delete", 1_001, 20),
        ("reschedule", 1_345, 200),
    ],
)
def test_many_leave_a_long_line_wherever_they_stand_in_it(
    broker: Any, redis: Any, name: str, number: int, length: int
) -> None:
    line = [f"p{i:04}" for i in range(length)]
    chosen = random.Random(number).sample(line, number)
    load(redis, {"pending": line[::-1], **{f"t:{i}": task(i, "pending") for i in line}})
    assert broker.run(ALL[name](*chosen)) == DONE
    content = dump(redis)
    check_invariants(content)
    assert content.get("pending", [])[::-1] == [i for i in line if i not in chosen]


# --- payload, pause ------------------------------------------------------------------------------


def set_payload(expected: bytes | None = None) -> Any:
    expected = encoded("a") if expected is None else expected
    return inspect.set_payload("q", "a", expected, encoded("a", payload=b"new"))


@pytest.mark.parametrize("state", ["pending", "scheduled"])
def test_another_payload(broker: Any, redis: Any, state: str) -> None:
    load(redis, lying(state))
    assert broker.run(set_payload()) == "WRITTEN"
    new = {**PLACES[state]["t:a"], "msg": message("a", payload=b"new")}
    assert dump(redis) == {**lying(state), "t:a": new}
    assert broker.run(set_payload()) == "WRITTEN"
    assert broker.run(set_payload(b"x")) == "WRITTEN"  # it is what was to be written


@pytest.mark.parametrize("state", ["retry", "archived", "completed", "aggregating"])
def test_no_other_payload_once_it_began(broker: Any, redis: Any, state: str) -> None:
    load(redis, lying(state))
    assert broker.run(set_payload()) == state
    assert dump(redis) == lying(state)


def test_a_payload_is_not_set_over_what_somebody_else_wrote(broker: Any, redis: Any) -> None:
    assert broker.run(set_payload()) == "MISSING"
    load(redis, lying("pending"))
    assert broker.run(set_payload(b"other")) == "CHANGED"
    assert dump(redis) == lying("pending")


def test_pause_and_unpause(broker: Any, redis: Any) -> None:
    assert broker.run(inspect.pause("q", NOW_MS)) is True
    assert dump(redis) == {"paused": str(NOW)}
    assert broker.run(inspect.pause("q", NOW_MS + 5_000)) is False
    assert dump(redis) == {"paused": str(NOW)}
    assert broker.run(inspect.unpause("q")) is True
    assert broker.run(inspect.unpause("q")) is False
    assert dump(redis) == {}
