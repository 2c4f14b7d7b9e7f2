"""Processed and failed tasks are counted, in all and by the day."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Until, dump, encoded, load, task
from transitions import COUNTED_UNTIL, DAY, NOW, WHO, active, ended, failure, fetched

from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands import inspect, lifecycle

MOST = 9_223_372_036_854_775_807
DAY_MS = 86_400_000


def end(broker: Any, redis: Any, *ids: str, now_ms: int = NOW_MS) -> dict[str, Any]:
    """Complete these tasks in one call, and return the counters."""
    load(redis, fetched(*(active(i) for i in ids)))
    refused = broker.run(lifecycle.complete("q", [ended(i) for i in ids], now_ms, WHO))
    assert refused == []
    return {k: v for k, v in dump(redis).items() if k.startswith(("processed", "failed"))}


def test_a_day_counts_on_and_expires_ninety_days_after_its_first_task(
    broker: Any, redis: Any
) -> None:
    assert end(broker, redis, "a", "b") == {
        "processed": "2",
        f"processed:{DAY}": Until("2", COUNTED_UNTIL),
    }
    assert end(broker, redis, "a", now_ms=NOW_MS + 3_600_000) == {
        "processed": "3",
        f"processed:{DAY}": Until("3", COUNTED_UNTIL),
    }


def test_the_next_day_has_a_counter_of_its_own(broker: Any, redis: Any) -> None:
    midnight = (NOW_MS // DAY_MS + 1) * DAY_MS
    end(broker, redis, "a", now_ms=midnight - 1)
    assert end(broker, redis, "a", now_ms=midnight) == {
        "processed": "2",
        f"processed:{DAY}": Until("1", midnight // 1000 - 1 + 90 * 86_400),
        "processed:2033-05-19": Until("1", midnight // 1000 + 90 * 86_400),
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (MOST, 2),
        (MOST - 1, 2),
        (MOST - 500, 2),  # in Lua's numbers these look alike
        (MOST - 2_000, MOST - 1_998),
        (0, 2),
    ],
)
def test_a_total_at_its_limit_begins_again_and_the_tasks_end_all_the_same(
    broker: Any, redis: Any, before: int, after: int
) -> None:
    redis.set("asynq:{q}:processed", before)
    assert end(broker, redis, "a", "b")["processed"] == str(after)


@pytest.mark.parametrize("number", [1, 511, 512, 513, 600, 1_000])
@pytest.mark.parametrize("below", [1, 511, 512, 513, 600, 1_100, 1_600])
def test_no_total_overflows_however_many_are_counted_at_once(
    broker: Any, redis: Any, number: int, below: int
) -> None:
    redis.set("asynq:{q}:processed", MOST - below)
    total = int(end(broker, redis, *(f"a{i}" for i in range(number)))["processed"])
    assert total in (number, MOST - below + number)


ODD = ("text", "", "1.5", "inf", "nan", "9" * 400, "-", " 1")


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("key", ["processed", f"processed:{DAY}"])
@pytest.mark.parametrize("is_full", [False, True])
def test_a_counter_that_holds_no_number_begins_again_and_the_tasks_end_all_the_same(
    broker: Any, redis: Any, key: str, text: str, is_full: bool
) -> None:
    load(redis, {**fetched(active("a"), active("b")), key: text})
    command = lifecycle.complete("q", [ended("a"), ended("b")], NOW_MS, WHO)
    if is_full:
        assert command.full is not None
        command = command.full
    assert broker.run(command) == []
    content = dump(redis)
    assert "active" not in content
    assert content["processed"] == "2"
    assert content[f"processed:{DAY}"] == Until("2", COUNTED_UNTIL)


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize(
    "key", ["processed", f"processed:{DAY}", "failed", f"failed:{DAY}", "own:trimmed"]
)
@pytest.mark.parametrize("outcome", ["archive", "retry", "cancel"])
def test_tasks_fail_and_are_cancelled_whatever_a_counter_holds(
    broker: Any, redis: Any, key: str, text: str, outcome: str
) -> None:
    waiting = {"t:w": task("w", "pending", {"pending_since": 1}), "pending": ["w"]}
    load(redis, {**fetched(active("a")), **waiting, key: text})
    if outcome == "archive":
        assert broker.run(failure_commands.archive("q", failure("a"), encoded("a"), NOW_MS, WHO))
    elif outcome == "retry":
        assert broker.run(
            failure_commands.retry("q", failure("a"), encoded("a"), NOW_MS, NOW_MS, WHO)
        )
    else:
        redis.hset("nbqueue:{q}:settings", "archive_max", 0)
        command = inspect.cancel_tasks("q", ["w"], [b"E"], "cancelled", NOW_MS)
        assert broker.run(command).refused == {}
    content = dump(redis)
    assert ("active" in content) == (outcome == "cancel")
    if outcome == "cancel":
        assert "t:w" not in content


def test_failures_are_counted_as_processed_too(broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a"), active("b"), active("c")))
    broker.run(failure_commands.archive("q", failure("a"), encoded("a"), NOW_MS, WHO))
    broker.run(failure_commands.retry("q", failure("b"), encoded("b"), NOW_MS, NOW_MS, WHO))
    broker.run(
        failure_commands.retry("q", failure("c"), encoded("c"), NOW_MS, NOW_MS, WHO, counts=False)
    )
    content = dump(redis)
    day = Until("2", NOW + 90 * 86_400)
    assert (content["processed"], content["failed"]) == ("2", "2")
    assert (content[f"processed:{DAY}"], content[f"failed:{DAY}"]) == (day, day)
