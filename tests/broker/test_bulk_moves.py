"""Acting on many tasks: all, in the order of the pending list, in short scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from keyspace import NOW_MS, encoded

from nbqueue.broker.bulk_moves import act_on_many
from nbqueue.broker.commands import inspect
from nbqueue.broker.commands.inspect import FAR, UNSIGNED, Moved
from nbqueue.transport.script_call import Command
from nbqueue.wire.keys import queue_keys

LINE = 6_000
PREFIX = "asynq:{q}:"


def fill(redis: Any, count: int = LINE) -> list[str]:
    """A long line of tasks; returns their ids, oldest first."""
    ids = [f"t{number:05}" for number in range(count)]
    pipe = redis.pipeline(transaction=False)
    for task_id in ids:
        pipe.hset(f"{PREFIX}t:{task_id}", mapping={"msg": encoded(task_id), "state": "pending"})
    pipe.lpush(f"{PREFIX}pending", *ids)
    pipe.execute()
    return ids


def line(redis: Any) -> list[str]:
    """The ids in the line, oldest first."""
    return [raw.decode() for raw in reversed(redis.lrange(f"{PREFIX}pending", 0, -1))]


def cancel(ids: Sequence[str], distances: Sequence[int] | None) -> Command[Moved]:
    errors = [b"E"] * len(ids)
    return inspect.cancel_tasks("q", ids, errors, "cancelled", NOW_MS, distances)


def act(broker: Any, ids: Sequence[str], make: Any = cancel) -> dict[str, str]:
    """Do it; returns those that were refused, with the word."""
    refused: dict[str, str] = {}

    def note(part: Sequence[str], moved: Moved) -> list[str]:
        words = {part[position]: word for position, word in moved.refused.items()}
        refused.update((task_id, word) for task_id, word in words.items() if word != FAR)
        return [task_id for task_id, word in words.items() if word == FAR]

    act_on_many(broker, "q", ids, make, note)
    return refused


@pytest.mark.parametrize(
    "chosen",
    [slice(None, 700), slice(-700, None), slice(2_900, 3_600), slice(3, None, 40), slice(None)],
    ids=["oldest", "newest", "middle", "scattered", "all"],
)
def test_they_leave_a_long_line_and_the_others_keep_their_order(
    broker: Any, redis: Any, chosen: slice
) -> None:
    ids = fill(redis)
    gone = ids[chosen]
    assert act(broker, gone) == {}
    taken = set(gone)
    assert line(redis) == [task_id for task_id in ids if task_id not in taken]
    assert redis.zcard(f"{PREFIX}archived") == len(gone)


@pytest.mark.parametrize(
    "make",
    [
        lambda ids, distances: inspect.delete("q", ids, NOW_MS, distances=distances),
        lambda ids, distances: inspect.archive_by_hand("q", ids, NOW_MS, distances=distances),
        lambda ids, distances: inspect.reschedule(
            "q", ids, NOW_MS + 60_000, NOW_MS, distances=distances
        ),
    ],
    ids=["delete", "archive", "reschedule"],
)
def test_the_same_goes_for_whatever_takes_tasks_out_of_the_line(
    broker: Any, redis: Any, make: Any
) -> None:
    ids = fill(redis)
    assert act(broker, [*ids[100:400], ids[-1], "nobody"], make) == {"nobody": "MISSING"}
    assert line(redis) == [*ids[:100], *ids[400:-1]]


def test_what_lies_between_the_tasks_at_both_ends_keeps_its_order(broker: Any, redis: Any) -> None:
    ids = fill(redis, 9_000)
    gone = [i for part in (ids[:1_500], ids[-1_500:]) for n, i in enumerate(part) if n % 5]
    redis.config_resetstat()
    assert act(broker, gone) == {}
    assert line(redis) == [task_id for task_id in ids if task_id not in set(gone)]
    # The older half went with cuts of the end, and only some of the newer half needed marks.
    assert redis.info("commandstats")["cmdstat_lset"]["calls"] < 1_200


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize("fetched", [5, 40, 450])
def test_tasks_that_workers_moved_are_found_with_one_more_look(
    broker: Any, redis: Any, fetched: int
) -> None:
    ids = fill(redis)
    chosen = range(2_000, 5_500, 35)
    redis.ltrim(f"{PREFIX}pending", 0, -fetched - 1)
    gone = [ids[n] for n in chosen]
    assert broker.run(cancel(gone, [n + 1 for n in chosen])).refused == {}
    assert line(redis) == [task_id for task_id in ids[fetched:] if task_id not in set(gone)]


def unsigned(ids: Sequence[str], later: int = 0, listener: str = "") -> Command[Moved]:
    errors = [b""] * len(ids)
    return inspect.cancel_tasks(
        *("q", ids, errors, "cancelled", NOW_MS, None, later), listener=listener
    )


def test_the_end_of_deleted_tasks_needs_no_error_unless_another_client_listens(
    broker: Any, redis: Any
) -> None:
    ids = fill(redis, 6)
    assert broker.run(unsigned(ids[:2])).refused == dict.fromkeys(range(2), UNSIGNED)
    listening = redis.pubsub()
    for task_id in ids[:2]:
        listening.subscribe(queue_keys("q").end_channel(task_id))
        assert listening.get_message(timeout=5)["type"] == "subscribe"
    name, many = ids[0][:6], 20_000
    assert broker.run(unsigned(ids[:1], many)).refused == {0: UNSIGNED}
    assert redis.exists(f"{PREFIX}t:{ids[0]}")
    assert broker.run(unsigned(ids[:1], many, name)).refused == {}  # the only listener is this test
    assert not redis.exists(f"{PREFIX}t:{ids[0]}")
    assert broker.run(cancel(ids[1:2], None)).refused == {}
    assert b"E" in listening.get_message(timeout=5)["data"]
    listening.close()


def test_what_is_set_aside_leaves_the_line_for_a_while(broker: Any, redis: Any) -> None:
    ids = fill(redis)
    gone = ids[3_000:3_300]
    refused = act(
        broker,
        [*gone, "nobody"],
        lambda part, places: inspect.set_aside("q", part, NOW_MS + 60_000, NOW_MS, places),
    )
    assert refused == {"nobody": "MISSING"}
    assert line(redis) == [*ids[:3_000], *ids[3_300:]]
    assert redis.zcard(f"{PREFIX}scheduled") == len(gone)
    assert redis.hget(f"{PREFIX}t:{gone[0]}", "state") == b"scheduled"


def test_a_script_does_not_search_a_long_line(broker: Any, redis: Any) -> None:
    ids = fill(redis)
    before = line(redis)
    assert broker.run(cancel(ids[3_000:3_005], None)).refused == dict.fromkeys(range(5), FAR)
    assert line(redis) == before
    # Tasks that moved a little since they were seen are still found.
    assert broker.run(cancel(ids[3_000:3_002], [3_201, 3_202])).refused == {}
    assert line(redis) == [*ids[:3_000], *ids[3_002:]]


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize("fetched_at_once", [3, 2_000])
def test_a_worker_may_fetch_meanwhile(
    broker: Any, redis: Any, fetched_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fill(redis)
    run_all = type(broker).run_all

    def fetch_first(self: Any, batch: Any) -> Any:
        redis.ltrim(f"{PREFIX}pending", 0, -fetched_at_once - 1)
        return run_all(self, batch)

    monkeypatch.setattr(type(broker), "run_all", fetch_first)
    gone = ids[-400:-100]
    assert act(broker, gone) == {}
    left = line(redis)
    assert not set(left) & set(gone)
    assert left == [task_id for task_id in ids if task_id in set(left)]


@pytest.mark.slow
def test_no_script_takes_long(broker: Any, redis: Any) -> None:
    ids = fill(redis, 60_000)

    def used() -> float:
        """Seconds of CPU time: those on the wall are others' too."""
        found = redis.info("cpu")
        return float(found["used_cpu_user"] + found["used_cpu_sys"])

    redis.config_resetstat()
    before = used()
    assert act(broker, ids[20_000:30_000:2]) == {}
    calls = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    # 2 to 20 ms, by the machine; all in one call would take 16 times as long.
    assert (used() - before) / calls < 0.050
