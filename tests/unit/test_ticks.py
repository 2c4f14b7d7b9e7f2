"""Due times of a schedule: fired, skipped and missed ones."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbqueue.broker.due_times import MOST_MISSED, Step, first_due, next_due, plan
from nbqueue.cron import parse_spec
from nbqueue.wire.messages import TaskMessage
from nbqueue.wire.schedule_record import ScheduleEntry

MESSAGE = TaskMessage(type="t", queue="q").SerializeToString()
NOON = 1_767_268_800_000
"""2026-01-01 12:00 UTC."""
SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000


def entry(spec: str = "* * * * *", **more: Any) -> ScheduleEntry:
    return ScheduleEntry("s", spec, "UTC", MESSAGE, "", "aaaaaa", **more)


def steps(of: ScheduleEntry, due: int, now: int) -> list[Step]:
    return plan(parse_spec(of.spec), of, due, now)


def test_a_time_that_has_come_is_fired() -> None:
    assert steps(entry(), NOON, NOON - 1) == []
    assert steps(entry(), NOON, NOON) == [Step(NOON, NOON + MINUTE)]
    assert steps(entry(), NOON, NOON + 20 * SECOND) == [Step(NOON, NOON + MINUTE)]


def test_a_short_delay_misses_nothing() -> None:
    found = steps(entry("@every 1s"), NOON, NOON + 4 * SECOND)
    assert [step.due_ms for step in found] == [NOON + i * SECOND for i in range(5)]
    assert not any(step.reason for step in found)


@pytest.mark.parametrize("missed", ["once", "skip"])
def test_a_run_that_is_on_time_makes_up_for_the_missed(missed: str) -> None:
    of = entry(missed=missed)
    [over, run] = steps(of, NOON, NOON + 10 * MINUTE + SECOND)
    last = NOON + 10 * MINUTE
    assert over == Step(NOON, last, "missed", "10 missed: no worker ran its schedules")
    assert run == Step(last, last + MINUTE)


def test_once_makes_up_for_all_missed_with_one_run() -> None:
    day = 24 * HOUR
    found = steps(entry("@daily"), NOON - 12 * HOUR, NOON + 3 * day)
    last = NOON - 12 * HOUR + 3 * day
    assert [(s.due_ms, s.next_ms, s.reason) for s in found] == [
        (NOON - 12 * HOUR, last, "missed"),
        (last, last + day, ""),
    ]
    # One alone is that run.
    assert steps(entry("@daily"), last, last + HOUR) == [Step(last, last + day)]


def test_skip_makes_up_for_nothing() -> None:
    due = NOON - 12 * HOUR
    of = entry("@daily", missed="skip")
    [over] = steps(of, due, NOON)
    assert over == Step(due, due + 24 * HOUR, "missed", "1 missed: no worker ran its schedules")
    assert steps(of, due, due + 30 * SECOND) == [Step(due, due + 24 * HOUR)]


def test_all_makes_up_for_each() -> None:
    found = steps(entry(missed="all"), NOON, NOON + 9 * MINUTE)
    assert [step.due_ms for step in found] == [NOON + i * MINUTE for i in range(10)]
    assert not any(step.reason for step in found)


@pytest.mark.parametrize("spec", ["* * * * *", "@every 60s", "*/10 * * * *"])
def test_all_has_a_limit_and_says_what_it_drops(spec: str) -> None:
    now = NOON + 60 * 24 * HOUR
    found = steps(entry(spec, missed="all"), NOON, now)
    assert found[0].reason == "missed"
    assert "more than 100 missed: too many" in found[0].detail
    fired = found[1:]
    assert not any(step.reason for step in fired)
    assert MOST_MISSED / 2 <= len(fired) <= MOST_MISSED + 1
    assert fired[-1].due_ms == now
    for before, after in zip(found, fired, strict=False):
        assert before.next_ms == after.due_ms


@pytest.mark.parametrize("missed", ["once", "skip", "all"])
@pytest.mark.parametrize("spec", ["* * * * *", "@every 1s", "0 0 29 2 *", "*/5 1 1 1,6 *"])
def test_years_without_a_worker_take_no_time(spec: str, missed: str) -> None:
    of = entry(spec, missed=missed)
    due = next_due(parse_spec(spec), of, NOON)
    assert due is not None
    began = time.monotonic()
    found = steps(of, due, NOON + 9 * 366 * 24 * HOUR)
    assert time.monotonic() - began < 10
    assert len(found) <= MOST_MISSED + 10


def test_start_until() -> None:
    half = NOON + MINUTE // 2
    for spec, first in (("* * * * *", NOON), ("@every 7s", NOON), ("@hourly", NOON)):
        of = entry(spec, start_ms=NOON, until_ms=half)
        assert first_due(parse_spec(spec), of, NOON - 99 * HOUR) == first
    of = entry("@every 7s", start_ms=NOON, until_ms=half)
    assert first_due(parse_spec(of.spec), of, NOON + 3 * SECOND) == NOON + 10 * SECOND
    assert steps(entry(until_ms=half), NOON, NOON) == [Step(NOON, None)]
    assert first_due(parse_spec("* * * * *"), of, half) is None


def test_what_was_missed_at_the_end_ends_it() -> None:
    of = entry("@daily", missed="skip", until_ms=NOON)
    assert [(s.next_ms, s.reason) for s in steps(of, NOON - 12 * HOUR, NOON)] == [(None, "missed")]
    of = entry("@daily", until_ms=NOON)
    assert steps(of, NOON - 12 * HOUR, NOON) == [Step(NOON - 12 * HOUR, None)]


def test_jitter_is_the_same_for_all_who_ask() -> None:
    of = entry(jitter_ms=30_000)
    delays = [of.fire_ms(NOON + i * MINUTE) - NOON - i * MINUTE for i in range(200)]
    assert delays == [of.fire_ms(NOON + i * MINUTE) - NOON - i * MINUTE for i in range(200)]
    assert min(delays) >= 0
    assert max(delays) <= 30_000
    assert len(set(delays)) > 150
    at = of.fire_ms(NOON)
    assert steps(of, NOON, at - 1) == []
    assert steps(of, NOON, at)[0].due_ms == NOON


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["* * * * *", "*/7 * * * *", "@every 13s", "0 */3 * * *", "@daily"]),
    st.sampled_from(["once", "skip", "all"]),
    st.integers(0, 3 * 24 * HOUR),
    st.sampled_from([0, 5_000, 90_000]),
)
def test_steps_hang_together_and_leave_nothing_that_has_come(
    spec: str, missed: str, late: int, jitter: int
) -> None:
    of = entry(spec, missed=missed, jitter_ms=jitter)
    parsed = parse_spec(spec)
    due = next_due(parsed, of, NOON)
    assert due is not None
    now = due + late
    found = steps(of, due, now)
    at: int | None = due
    for step in found:
        assert step.due_ms == at
        at = step.next_ms
    assert at is not None
    assert of.fire_ms(at) > now
    fired = [step.due_ms for step in found if not step.reason]
    assert all(of.fire_ms(each) <= now for each in fired)
    if of.fire_ms(due) <= now and missed == "once":
        assert fired
    if missed == "once" and not jitter:
        assert len([each for each in fired if now - each > 65_000]) <= 1
