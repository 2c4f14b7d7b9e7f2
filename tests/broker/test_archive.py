"""archive: a task failed for good. The archive keeps a number of tasks for a time."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, encoded, load, task
from transitions import (
    NOW,
    SINCE,
    TOKEN,
    WHO,
    active,
    attempt,
    attempts,
    counted,
    events,
    failure,
    fetched,
    mark,
)

from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands.failure import ArchiveRules
from nbqueue.broker.commands.retention import ARCHIVE_CAP
from nbqueue.transport.script_call import Command

OWN = {"nbq:lease": f"{TOKEN}|{SINCE}", "nbq:attempt": 1}
DAYS_90 = 90 * 86_400


def archive(
    task_id: str = "a", error: bytes = b"E", most: int = ARCHIVE_CAP, **more: Any
) -> Command[bool]:
    msg = encoded(task_id, error_msg="boom", last_failed_at=NOW)
    rules = ArchiveRules(most=most)
    failed = failure(task_id, **more)
    return failure_commands.archive("q", failed, msg, NOW_MS, WHO, error=error, rules=rules)


def archived(task_id: str = "a") -> Any:
    of = {"error_msg": "boom", "last_failed_at": NOW}
    more = {**OWN, "nbq:error": b"E", "nbq:failed": mark(**of)}
    return task(task_id, "archived", more, **of)


def old(scores: dict[str, int]) -> dict[str, Any]:
    """Tasks that were archived at these times."""
    return {"archived": Zset(scores), **{f"t:{i}": task(i, "archived") for i in scores}}


def test_archive(broker: Any, redis: Any) -> None:
    load(redis, {**fetched(active("a"), active("b")), **old({"x": NOW - 1})})
    assert broker.run(archive()) is True
    assert dump(redis) == {
        **fetched(active("b")),
        **old({"x": NOW - 1}),
        "archived": Zset(x=NOW - 1, a=NOW),
        "t:a": archived(),
        **counted(1, 1),
        **events(("archived", "a")),
        **attempts(attempt("a", "archived")),
    }


def test_a_repeat_and_a_stranger_change_nothing(broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a")))
    before = dump(redis)
    assert broker.run(archive(fence="Tother")) is False
    assert dump(redis) == before
    assert broker.run(archive()) is True
    before = dump(redis)
    assert broker.run(archive()) is False
    assert dump(redis) == before


def test_without_an_error_none_of_an_earlier_attempt_is_left(broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a", {"nbq:error": b"earlier"})))
    assert broker.run(archive(error=b"")) is True
    assert "nbq:error" not in dump(redis)["t:a"]


def test_what_is_older_than_ninety_days_goes_with_its_hash(broker: Any, redis: Any) -> None:
    given = old({"x": NOW - DAYS_90 - 1, "y": NOW - DAYS_90, "z": NOW - DAYS_90 + 1})
    load(redis, {**fetched(active("a")), **given})
    assert broker.run(archive()) is True
    assert dump(redis) == {
        "archived": Zset(z=NOW - DAYS_90 + 1, a=NOW),
        "t:z": task("z", "archived"),
        "t:a": archived(),
        "own:trimmed": "2",
        **counted(1, 1),
        **events(("trimmed", "x y"), ("archived", "a")),
        **attempts(attempt("a", "archived")),
    }


def test_what_is_too_many_goes_with_its_hash_the_oldest_first(broker: Any, redis: Any) -> None:
    load(redis, {**fetched(active("a")), **old({"x": NOW - 9, "y": NOW - 8, "z": NOW - 7})})
    assert broker.run(archive(most=3)) is True
    content = dump(redis)
    assert content["archived"] == Zset(y=NOW - 8, z=NOW - 7, a=NOW)
    assert "t:x" not in content
    assert content["own:events"][0]["ids"] == "x"


def test_the_new_one_stays_however_many_were_archived_in_its_second(
    broker: Any, redis: Any
) -> None:
    # By name the new one is the first of its second, which is how Asynq loses it.
    load(redis, {**fetched(active("a")), **old({"x": NOW, "y": NOW, "z": NOW})})
    assert broker.run(archive(most=2)) is True
    content = dump(redis)
    assert content["archived"] == Zset(z=NOW, a=NOW)
    assert content["t:a"] == archived()


def test_by_age_and_by_number_together(broker: Any, redis: Any) -> None:
    scores = {"w": NOW - DAYS_90 - 5, "x": NOW - 9, "y": NOW - 8, "z": NOW - 7}
    load(redis, {**fetched(active("a")), **old(scores)})
    assert broker.run(archive(most=2)) is True
    content = dump(redis)
    assert content["archived"] == Zset(z=NOW - 7, a=NOW)
    assert content["own:events"][0] == {"event": "trimmed", "at": str(NOW_MS), "ids": "w x y"}


def test_a_huge_surplus_is_trimmed_in_several_calls(broker: Any, redis: Any) -> None:
    ids = [f"x{i:04}" for i in range(400)]
    load(redis, {**fetched(active("a"), active("b")), **old(dict.fromkeys(ids, NOW - 9))})
    assert broker.run(archive("a", most=10)) is True
    assert redis.zcard("asynq:{q}:archived") == 301
    assert broker.run(archive("b", most=10)) is True
    assert redis.zcard("asynq:{q}:archived") == 202


@pytest.mark.usefixtures("odd_store")
def test_trimming_never_deletes_a_task_that_lives_elsewhere(broker: Any, redis: Any) -> None:
    pending = {"pending": ["x"], "t:x": task("x", "pending", {"pending_since": 1})}
    stray = Zset(x=NOW - DAYS_90 - 1, a=NOW - DAYS_90 - 1)
    load(redis, {**fetched(active("a")), **pending, "archived": stray})
    assert broker.run(archive()) is True
    content = dump(redis)
    assert content["archived"] == Zset(a=NOW)
    assert content["t:x"] == pending["t:x"]
    assert content["t:a"] == archived()
