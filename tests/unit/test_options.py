from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from nbqueue.errors import InvalidDuration, UsageError
from nbqueue.options import TaskOptions

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)


def test_without_any_they_say_nothing() -> None:
    options = TaskOptions()
    assert (options.queue, options.on_lost) == ("default", "rerun")
    assert (options.retry, options.timeout, options.retention, options.name) == (None,) * 4


@pytest.mark.parametrize("queue", ["critical", "my-queue_1.eu:west", "größer", "two words"])
def test_queue_names_that_every_reader_takes(queue: str) -> None:
    assert TaskOptions(queue=queue).queue == queue


@pytest.mark.parametrize("queue", ["", " ", "a/b", "{a}", "a\n", " a", "a ", "\ud800", 3, None])
def test_queue_names_that_some_reader_does_not_take(queue: Any) -> None:
    with pytest.raises(UsageError, match="queue="):
        TaskOptions(queue=queue)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retry", -1),
        ("retry", 1.5),
        ("retry", True),
        ("retry", "3"),
        ("retry", 2**31),
        ("task_id", ""),
        ("task_id", " x"),
        ("name", "  "),
        ("name", 7),
        ("deadline", "tomorrow"),
        ("deadline", 1_900_000_000),
        ("at", datetime(2030, 1, 1)),
        ("headers", {"a": 1}),
        ("headers", {1: "a"}),
        ("headers", {"nbq:limits": "1|0"}),
        ("on_lost", "retry"),
    ],
)
def test_a_value_that_cannot_be_right_is_named(option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=option):
        TaskOptions(**{option: value})


@pytest.mark.parametrize("option", ["timeout", "delay", "retention"])
def test_durations_are_checked_at_once(option: str) -> None:
    with pytest.raises(InvalidDuration, match=f"{option}='10 minuts'"):
        TaskOptions(**{option: "10 minuts"})  # type: ignore[arg-type]
    assert getattr(TaskOptions(**{option: "10m"}), option) == "10m"  # type: ignore[arg-type]


def test_a_time_without_a_zone_is_told_how_to_get_one() -> None:
    with pytest.raises(UsageError, match=r"astimezone\(\)"):
        TaskOptions(deadline=datetime(2030, 1, 1))
    zone = timezone(timedelta(hours=2))
    assert TaskOptions(deadline=datetime(2030, 1, 1, tzinfo=zone)).deadline is not None


def test_two_ways_to_say_when_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="delay= and at="):
        TaskOptions(delay=5, at=NOW)


def test_changes_leave_the_original_alone() -> None:
    first = TaskOptions(queue="a", retry=1)
    second = first.merged({"retry": 2})
    assert (first.retry, second.retry, second.queue) == (1, 2, "a")
    assert second.merged({}) == second


def test_of_two_ways_to_say_when_the_later_wins() -> None:
    later = TaskOptions(delay="5m").merged({"at": NOW})
    assert (later.delay, later.at) == (None, NOW)
    again = later.merged({"delay": 3})
    assert (again.delay, again.at) == (3, None)


def test_an_unknown_option_is_told_which_there_are() -> None:
    with pytest.raises(UsageError, match=r"'retries' is no option.*retry"):
        TaskOptions().merged({"retries": 3})
