"""Limits by name and of a queue: tasks are admitted, parked and released in order."""

from __future__ import annotations

from typing import Any

import pytest
from asynq_peer import AsynqPeer
from keyspace import NOW_MS, Until, Zset, dump, encoded, load, task
from transitions import (
    FENCE,
    LEASE_MS,
    NOW,
    SCORE,
    TOKEN,
    WHO,
    active,
    ended,
    events,
    failure,
)

from nbqueue.broker.commands import enqueue as enqueue_commands
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands import inspect, lifecycle, limits, maintenance
from nbqueue.tasks.new_task import NewTask

SAFE = NOW + 600
SINCE_NOW = NOW_MS * 1_000_000
WITHOUT = ("own:events", "own:attempts")


def new(*ids: str, limit: str = "n") -> list[NewTask]:
    return [limits.limited(NewTask(i, encoded(i)), limit) for i in ids]


def enqueue(broker: Any, *ids: str, limit: str = "n") -> None:
    assert broker.run(enqueue_commands.enqueue("q", new(*ids, limit=limit), NOW_MS)) == []


def set_limit(broker: Any, numbers: str, name: str = "n", at: int = NOW_MS) -> bool:
    changed: bool = broker.run(limits.set_limit("q", name, numbers, at, at))
    return changed


def fetch(broker: Any, limit: int = 5, at: int = NOW_MS, token: str = TOKEN) -> list[str]:
    found = broker.run(lifecycle.fetch("q", limit, at, LEASE_MS, token))
    return [each.task_id for each in found]


def limited(task_id: str, state: str, more: dict[str, Any] | None = None) -> Any:
    return task(task_id, state, {"nbq:limit": "n", **(more or {})})


def running(task_id: str, since: int = SINCE_NOW, **more: Any) -> Any:
    fields = {"nbq:lease": f"{TOKEN}|{since}", "nbq:attempt": 1, "nbq:limit": "n"}
    return task(task_id, "active", {**fields, **more})


def waiting(task_id: str) -> Any:
    return limited(task_id, "scheduled", {"nbq:parked": "limit:n"})


def turn(task_id: str, **more: Any) -> Any:
    fields = {"nbq:parked": "turn", "pending_since": SINCE_NOW, **more}
    return limited(task_id, "pending", fields)


TWO_OF_FOUR = {
    "own:limits": {"n": f"2||||{NOW_MS}"},
    "own:limit:n": Zset(a=NOW_MS, b=NOW_MS),
    "own:wait:limit:n": Zset(c=NOW_MS, d=NOW_MS + 1),
    "own:waiting": Zset({"limit:n": NOW_MS + 2000}),
    "scheduled": Zset(c=SAFE, d=SAFE),
    "active": ["b", "a"],
    "lease": Zset(a=SCORE, b=SCORE),
    "t:a": running("a"),
    "t:b": running("b"),
    "t:c": waiting("c"),
    "t:d": waiting("d"),
}


def two_of_four(broker: Any) -> None:
    """a and b run, c and d wait."""
    set_limit(broker, "2|||")
    enqueue(broker, "a", "b", "c", "d")
    assert fetch(broker) == ["a", "b"]


def test_new_tasks_name_their_limits(broker: Any, redis: Any) -> None:
    enqueue(broker, "a", "b")
    tasks = [*new("c", limit="x"), *new("d", limit="y")]
    assert (
        broker.run(enqueue_commands.schedule("q", [(t, NOW_MS + 5) for t in tasks], NOW_MS)) == []
    )
    assert dump(redis, WITHOUT) == {
        "pending": ["b", "a"],
        "scheduled": Zset(c=NOW + 1, d=NOW + 1),
        "t:a": limited("a", "pending", {"pending_since": SINCE_NOW}),
        "t:b": limited("b", "pending", {"pending_since": SINCE_NOW}),
        "t:c": task("c", "scheduled", {"nbq:limit": "x", "nbq:due": NOW_MS + 5}),
        "t:d": task("d", "scheduled", {"nbq:limit": "y", "nbq:due": NOW_MS + 5}),
    }


def test_those_beyond_the_limit_are_parked(broker: Any, redis: Any) -> None:
    two_of_four(broker)
    assert dump(redis) == {
        **TWO_OF_FOUR,
        **events(("enqueued", "a b c d"), ("started", "a b"), ("parked", "c d")),
    }


def test_one_without_a_limit_overtakes(broker: Any, redis: Any) -> None:
    two_of_four(broker)
    enqueue(broker, "e")
    broker.run(enqueue_commands.enqueue("q", [NewTask("f", encoded("f"))], NOW_MS))
    assert fetch(broker, 1) == ["f"]


def complete(broker: Any, *ids: str, at: int = NOW_MS) -> None:
    assert broker.run(lifecycle.complete("q", [ended(i) for i in ids], at, WHO)) == []


def test_who_ends_lets_the_next_in(broker: Any, redis: Any) -> None:
    two_of_four(broker)
    complete(broker, "a")
    expected = {
        **TWO_OF_FOUR,
        "own:limit:n": Zset(b=NOW_MS, c=NOW_MS),
        "own:wait:limit:n": Zset(d=NOW_MS + 1),
        "scheduled": Zset(d=SAFE),
        "active": ["b"],
        "lease": Zset(b=SCORE),
        "pending": ["c"],
        "t:c": turn("c"),
    }
    del expected["t:a"]
    counters = ("processed", "processed:2033-05-18")
    assert dump(redis, WITHOUT + counters) == expected
    enqueue(broker, "e")
    assert fetch(broker) == ["c"]
    assert dump(redis)["t:c"] == running("c")
    assert dump(redis)["own:wait:limit:n"] == Zset(d=NOW_MS + 1, e=NOW_MS + 2)


def end(broker: Any, how: str, task_id: str) -> None:
    if how == "complete":
        complete(broker, task_id)
        return
    command: Any
    if how == "retry":
        command = failure_commands.retry(
            "q", failure(task_id), encoded(task_id), NOW_MS, NOW_MS, WHO
        )
    elif how == "archive":
        command = failure_commands.archive("q", failure(task_id), encoded(task_id), NOW_MS, WHO)
    else:
        command = failure_commands.requeue("q", failure(task_id), how, NOW_MS, WHO)
    assert broker.run(command)


@pytest.mark.parametrize("how", ["complete", "retry", "archive", "lost", "interrupted"])
def test_each_end_gives_the_place_up(broker: Any, redis: Any, how: str) -> None:
    two_of_four(broker)
    end(broker, how, "a")
    content = dump(redis)
    assert content["own:limit:n"] == Zset(b=NOW_MS, c=NOW_MS)
    assert content["t:c"] == turn("c")
    end(broker, how, "b")
    assert dump(redis)["own:limit:n"] == Zset(c=NOW_MS, d=NOW_MS)
    assert "own:wait:limit:n" not in dump(redis)
    assert "own:waiting" not in dump(redis)


def test_one_that_never_began_keeps_its_place(broker: Any, redis: Any) -> None:
    two_of_four(broker)
    end(broker, "unstarted", "a")
    content = dump(redis)
    assert content["own:limit:n"] == Zset(a=NOW_MS, b=NOW_MS)
    assert content["t:a"] == turn("a", **{"nbq:attempt": 0, "nbq:lease": f"{TOKEN}|{SINCE_NOW}"})
    assert fetch(broker) == ["a"]


def test_a_recovered_task_is_judged_again(broker: Any, redis: Any) -> None:
    set_limit(broker, "1|||")
    enqueue(broker, "a", "b")
    assert fetch(broker) == ["a"]
    [found] = broker.run(maintenance.expired("q", LEASE_MS + 1))
    lost = failure("a", fence=found.fence)
    assert broker.run(failure_commands.requeue("q", lost, "lost", NOW_MS, WHO))
    assert fetch(broker) == ["b"]
    assert dump(redis)["own:wait:limit:n"].keys() == {"a"}
    assert dump(redis)["own:limit:n"].keys() == {"b"}


def test_a_rate_lets_one_in_at_a_time(broker: Any, redis: Any) -> None:
    set_limit(broker, "|10|1000|")
    enqueue(broker, "a", "b", "c")
    assert fetch(broker) == ["a"]
    content = dump(redis)
    assert content["own:waiting"] == Zset({"limit:n": NOW_MS + 100})
    assert content["own:rate:n"].value == f"{NOW_MS + 100}.000"
    assert isinstance(content["own:rate:n"], Until)
    assert broker.run(limits.release_parked("q", NOW_MS + 99)) == (0, NOW_MS + 100)
    assert broker.run(limits.release_parked("q", NOW_MS + 105)) == (1, NOW_MS + 200)
    assert fetch(broker, at=NOW_MS + 105) == ["b"]
    # The one that was late is not late again because of it.
    assert broker.run(limits.release_parked("q", NOW_MS + 200)) == (1, None)
    assert fetch(broker, at=NOW_MS + 200) == ["c"]
    assert "own:waiting" not in dump(redis)


def test_a_burst_may_begin_at_once(broker: Any, redis: Any) -> None:
    set_limit(broker, "|10|1000|3")
    enqueue(broker, *"abcde")
    assert fetch(broker) == ["a", "b", "c"]
    assert broker.run(limits.release_parked("q", NOW_MS + 100)).moved == 1


def test_workers_are_told_when_the_next_may_begin(broker: Any, redis: Any) -> None:
    set_limit(broker, "|10|1000|")
    enqueue(broker, "a", "b", "c")
    with redis.pubsub() as listener:
        listener.subscribe("nbqueue:{q}:wake")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        fetch(broker)
        enqueue(broker, "d")
        fetch(broker)
        assert listener.get_message(timeout=5)["data"] == b"turn %d" % (NOW_MS + 100)
        assert listener.get_message(timeout=0.05) is None, "told twice"


def test_the_latest_numbers_win_and_hold_at_once(broker: Any, redis: Any) -> None:
    assert set_limit(broker, "1|||") is True
    assert set_limit(broker, "1|||") is False
    enqueue(broker, "a", "b", "c", "d")
    assert fetch(broker) == ["a"]
    assert set_limit(broker, "3|||", at=NOW_MS + 1) is True
    assert dump(redis)["own:limits"] == {"n": f"3||||{NOW_MS + 1}"}
    assert dump(redis)["pending"] == ["c", "b"]
    assert fetch(broker) == ["b", "c"]
    set_limit(broker, "1|||")
    complete(broker, "a", "b")
    assert "pending" not in dump(redis)
    complete(broker, "c")
    assert fetch(broker) == ["d"]


@pytest.mark.usefixtures("odd_store")
def test_another_rate_frees_those_that_wait_for_long(broker: Any, redis: Any) -> None:
    set_limit(broker, "|1|3600000|")
    enqueue(broker, "a", "b", "c")
    assert fetch(broker) == ["a"]
    set_limit(broker, "|10|1000|")
    assert fetch(broker) == ["b"]


def test_a_removed_limit_lets_all_in(broker: Any, redis: Any) -> None:
    set_limit(broker, "1|||")
    ids = [f"t{i:03}" for i in range(250)]
    enqueue(broker, *ids)
    assert fetch(broker) == ids[:1]
    assert broker.run(limits.remove_limit("q", "n", NOW_MS)) is True
    assert broker.run(limits.remove_limit("q", "n", NOW_MS)) is False
    assert broker.run(limits.release_parked("q", NOW_MS)).moved == 100
    assert broker.run(limits.release_parked("q", NOW_MS)) == (49, None)
    assert sorted(fetch(broker, 300)) == ids[1:]
    own = {name for name in dump(redis) if name.startswith("own:")}
    assert own == {"own:events"}


def test_an_idle_limit_is_forgotten_and_no_other(broker: Any, redis: Any) -> None:
    two_of_four(broker)

    def forget(before: int) -> bool:
        done: bool = broker.run(limits.remove_limit("q", "n", NOW_MS, before))
        return done

    assert forget(NOW_MS + 5) is False
    complete(broker, "a", "b")
    assert fetch(broker) == ["c", "d"]
    assert forget(NOW_MS + 5) is False
    complete(broker, "c", "d")
    assert forget(NOW_MS) is False
    assert forget(NOW_MS + 5) is True
    assert "own:limits" not in dump(redis)


@pytest.mark.parametrize("how", ["delete", "cancel", "run", "archive"])
def test_a_place_in_the_list_that_was_left_is_skipped(broker: Any, redis: Any, how: str) -> None:
    two_of_four(broker)
    peer = AsynqPeer(redis)
    if how == "delete":
        redis.zrem("asynq:{q}:scheduled", "c")
        redis.delete("asynq:{q}:t:c")
    elif how == "cancel":
        msg = encoded("c")
        assert broker.run(maintenance.cancel("q", "c", msg, msg, b"E", NOW_MS)) == "CANCELLED"
    elif how == "run":
        assert peer.run_one("c") == 1
        redis.lrem("asynq:{q}:pending", 0, "c")
        redis.rpush("asynq:{q}:pending", "c")
        assert fetch(broker) == []
        assert dump(redis)["t:c"] == waiting("c")
        return
    else:
        redis.zrem("asynq:{q}:scheduled", "c")
        redis.zadd("asynq:{q}:archived", {"c": NOW})
        redis.hset("asynq:{q}:t:c", "state", "archived")
    complete(broker, "a")
    assert fetch(broker) == ["d"]
    assert "own:wait:limit:n" not in dump(redis)


def test_the_safety_net_forwards_it_to_be_judged_again_in_its_place(
    broker: Any, redis: Any
) -> None:
    two_of_four(broker)
    later = NOW_MS + 601_000
    assert broker.run(maintenance.forward("q", later)).moved == 2
    assert fetch(broker, at=later) == []
    assert dump(redis)["own:wait:limit:n"] == TWO_OF_FOUR["own:wait:limit:n"]
    assert dump(redis)["scheduled"] == Zset(c=SAFE + 601, d=SAFE + 601)
    complete(broker, "a", at=later)
    assert fetch(broker, at=later) == ["c"]


def test_places_of_tasks_that_go_finished_are_found(broker: Any, redis: Any) -> None:
    two_of_four(broker)
    peer = AsynqPeer(redis)
    peer.done("a")
    peer.complete("b", encoded("b"), NOW + 60)
    assert broker.run(limits.release_parked("q", NOW_MS + 1999)).moved == 0
    assert broker.run(limits.release_parked("q", NOW_MS + 2000)) == (2, None)
    assert dump(redis)["own:limit:n"].keys() == {"c", "d"}


def test_one_whose_turn_was_taken_back_gives_its_place_up(broker: Any, redis: Any) -> None:
    two_of_four(broker)
    complete(broker, "a")
    msg = encoded("c")
    assert broker.run(maintenance.cancel("q", "c", msg, msg, b"E", NOW_MS)) == "CANCELLED"
    assert dump(redis)["t:d"] == turn("d")


def by_hand(broker: Any, how: str, task_id: str) -> None:
    if how == "reschedule":
        command = inspect.reschedule("q", [task_id], NOW_MS + 3_600_000, NOW_MS)
    else:
        move = {"delete": inspect.delete, "archive": inspect.archive_by_hand}[how]
        command = move("q", [task_id], NOW_MS)
    assert broker.run(command).refused == {}


@pytest.mark.parametrize("how", ["delete", "archive", "reschedule"])
def test_who_takes_one_away_that_had_its_turn_lets_the_next_in(
    broker: Any, redis: Any, how: str
) -> None:
    two_of_four(broker)
    complete(broker, "a")
    by_hand(broker, how, "c")
    content = dump(redis)
    assert content["t:d"] == turn("d")
    assert content["own:limit:n"] == Zset(b=NOW_MS, d=NOW_MS)
    assert "nbq:parked" not in content.get("t:c", {})
    assert fetch(broker) == ["d"]


@pytest.mark.parametrize("how", ["delete", "archive", "reschedule"])
def test_who_takes_one_away_that_waits_leaves_no_place(broker: Any, redis: Any, how: str) -> None:
    two_of_four(broker)
    by_hand(broker, how, "c")
    content = dump(redis)
    assert content["own:wait:limit:n"] == Zset(d=NOW_MS + 1)
    assert "nbq:parked" not in content.get("t:c", {})
    complete(broker, "a", "b")
    assert fetch(broker) == ["d"]
    assert dump(redis)["own:limit:n"] == Zset(d=NOW_MS)


def test_a_turn_without_a_place_is_judged_anew(broker: Any, redis: Any) -> None:
    set_limit(broker, "1|||")
    enqueue(broker, "a", "b")
    redis.hset("asynq:{q}:t:b", "nbq:parked", "turn")
    assert fetch(broker) == ["a"]
    assert dump(redis)["t:b"] == waiting("b")


def test_a_limit_that_nobody_knows_lets_everybody_in(broker: Any, redis: Any) -> None:
    enqueue(broker, "a", "b")
    assert fetch(broker) == ["a", "b"]
    assert dump(redis, (*WITHOUT, "t:b")) == {
        "active": ["b", "a"],
        "lease": Zset(a=SCORE, b=SCORE),
        "t:a": running("a"),
    }


def test_a_fetch_looks_past_hundreds_that_must_wait(broker: Any, redis: Any) -> None:
    set_limit(broker, "1|||")
    enqueue(broker, *(f"t{i:03}" for i in range(450)))
    broker.run(enqueue_commands.enqueue("q", [NewTask("z", encoded("z"))], NOW_MS))
    assert fetch(broker, 2) == ["t000", "z"]
    enqueue(broker, *(f"u{i:03}" for i in range(700)))
    broker.run(enqueue_commands.enqueue("q", [NewTask("y", encoded("y"))], NOW_MS))
    assert fetch(broker, 2) == []
    assert fetch(broker, 2) == ["y"]


# --- A queue as a whole ---------------------------------------------------------------------------


def test_a_queue_gives_no_more_than_it_may_run(broker: Any, redis: Any) -> None:
    broker.run(limits.set_concurrency("q", 2))
    tasks = [NewTask(i, encoded(i)) for i in "abc"]
    broker.run(enqueue_commands.enqueue("q", tasks, NOW_MS))
    assert fetch(broker) == ["a", "b"]
    assert dump(redis)["own:settings"] == {"concurrency": "2"}
    full = broker.run(lifecycle.fetch("q", 5, NOW_MS, LEASE_MS, TOKEN))
    assert isinstance(full, limits.Full)
    complete(broker, "a")
    assert fetch(broker) == ["c"]
    broker.run(limits.set_concurrency("q", None))
    assert "own:settings" not in dump(redis)
    assert broker.run(lifecycle.fetch("q", 5, NOW_MS, LEASE_MS, TOKEN)) == []


@pytest.mark.parametrize("how", ["complete", "retry", "archive", "lost", "unstarted"])
def test_workers_are_told_of_room_if_the_queue_has_a_limit(
    broker: Any, redis: Any, how: str
) -> None:
    load(redis, {
        "active": ["b", "a"], "lease": Zset(a=SCORE, b=SCORE),
        "t:a": active("a"), "t:b": active("b"),
    })  # fmt: skip
    with redis.pubsub() as listener:
        listener.subscribe("nbqueue:{q}:wake")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        end(broker, how, "a")
        broker.run(limits.set_concurrency("q", 2))
        end(broker, how, "b")
        words = []
        while message := listener.get_message(timeout=0.1):
            words.append(message["data"].partition(b" ")[0])
        assert words == [w for w in (b"due",) if how == "retry"] + [b"room"] + [
            w for w in (b"due",) if how == "retry"
        ] + [b"room"]


def test_the_fence_still_holds(broker: Any, redis: Any) -> None:
    two_of_four(broker)
    before = dump(redis)
    stale = ended("a", fence=FENCE + "x")
    assert broker.run(lifecycle.complete("q", [stale], NOW_MS, WHO)) == [0]
    assert dump(redis) == before
