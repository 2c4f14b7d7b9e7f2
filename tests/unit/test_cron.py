"""Cron specs: valid text, and due times against a scan of every minute."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbqueue.clock import from_ms, to_ms
from nbqueue.cron import Cron, Every, parse_spec
from nbqueue.errors import UsageError

UTC = timezone.utc


def at(text: str) -> datetime:
    return datetime.fromisoformat(text + "+00:00")


def times(spec: str, start: str, count: int, tz: str = "UTC") -> list[str]:
    """The next ``count`` due moments after ``start``, as UTC."""
    found, ms = [], to_ms(at(start))
    parsed = parse_spec(spec, tz)
    for _ in range(count):
        due = parsed.next_after(ms)
        assert due is not None
        ms = due
        found.append(from_ms(ms).strftime("%m-%dT%H:%M"))
    return found


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("", "empty"),
        (None, "empty"),
        ("* * * *", "4 fields"),
        ("* * * * * *", "6 fields"),
        ("60 * * * *", "minute '60' must be from 0 to 59"),
        ("* 24 * * *", "hour '24'"),
        ("* * 0 * *", "day of month '0'"),
        ("* * * 13 *", "month '13'"),
        ("* * * * 7", "day of week '7' must be from 0 to 6"),
        ("* * * mon *", "month 'mon'"),
        ("* * * * jan", "day of week 'jan'"),
        ("5-1 * * * *", "ends before it begins"),
        ("* * * * fri-mon", "ends before it begins"),
        ("*/0 * * * *", "step"),
        ("*/x * * * *", "step"),
        ("1/2/3 * * * *", "minute '1/2/3'"),
        ("1-2-3 * * * *", "minute '1-2-3'"),
        ("*-5 * * * *", "minute '*-5'"),
        ("1,,2 * * * *", "is empty"),
        ("-1 * * * *", "is empty"),
        ("L * * * *", "'L'"),
        ("* * l * *", "'l'"),
        ("* * * * 5#2", "'5#2'"),
        ("١ * * * *", "no number"),
        ("@fortnightly", "'@fortnightly'"),
        ("@every", "no duration"),
        ("@every 5", "no duration"),
        ("@every -5s", "no duration"),
        ("@every 900ms", "too short"),
        ("@every 300w", "longer than 5 years"),
        ("CRON_TZ=Mars/Olympus * * * * *", "'Mars/Olympus'"),
        ("TZ=UTC", "has a time zone but no times"),
        ("0 0 30 2 *", "never matches"),
        ("0 0 31 4,6,9,11 *", "never matches"),
    ],
)
def test_what_is_wrong_is_named(spec: str, part: str) -> None:
    with pytest.raises(UsageError, match="spec=") as caught:
        parse_spec(spec)
    assert part in str(caught.value)


@pytest.mark.parametrize("tz", ["", "Mars/Olympus", "/etc/passwd", "../x", 3, None, "a\0b"])
def test_a_zone_that_there_is_not_is_named(tz: str) -> None:
    with pytest.raises(UsageError, match="tz="):
        parse_spec("* * * * *", tz)


def test_every_counts_whole_seconds() -> None:
    assert parse_spec("@every 1m1.9s") == Every(61)
    assert parse_spec(" TZ=Asia/Tokyo @every 1s ") == Every(1)
    assert Every(2).next_after(10_999) == 12_000
    assert Every(2).next_after(12_000) == 14_000


@pytest.mark.parametrize(
    ("descriptor", "spec"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 jan ?"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * SUN"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 ? * *"),
        ("@hourly", "0 * * * *"),
    ],
)
def test_descriptors(descriptor: str, spec: str) -> None:
    assert parse_spec(descriptor) == parse_spec(spec)


def test_a_step_after_one_value_goes_on_to_the_end() -> None:
    assert times("50/4 3 * * *", "2026-01-01T00:00", 4) == [
        "01-01T03:50", "01-01T03:54", "01-01T03:58", "01-02T03:50",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "days"),
    [
        # 2026-01-01 is a Thursday.
        ("0 0 13 * fri", ["01-02", "01-09", "01-13", "01-16"]),
        ("0 0 * * fri", ["01-02", "01-09", "01-16", "01-23"]),
        ("0 0 ? * fri", ["01-02", "01-09", "01-16", "01-23"]),
        ("0 0 */1 * fri", ["01-02", "01-09", "01-16", "01-23"]),
        ("0 0 13 * *", ["01-13", "02-13", "03-13", "04-13"]),
        # A step makes it a restriction, so that either is enough, also where it names every day.
        ("0 0 */15 * sat", ["01-03", "01-10", "01-16", "01-17"]),
        ("0 0 1-31 * fri", ["01-02", "01-03", "01-04", "01-05"]),
        ("0 0 13 * 0-6", ["01-02", "01-03", "01-04", "01-05"]),
        ("0 0 13,* * fri", ["01-02", "01-09", "01-16", "01-23"]),
    ],
)
def test_days_of_month_and_week(spec: str, days: list[str]) -> None:
    assert [each[:5] for each in times(spec, "2026-01-01T00:00", 4)] == days


def test_a_leap_day_is_found() -> None:
    assert times("0 0 29 2 *", "2026-01-01T00:00", 1) == ["02-29T00:00"]


@pytest.mark.parametrize(
    ("zone", "spec", "start", "due"),
    [
        # Paris skips 02:00 to 03:00 on March 29th, and has it twice on October 25th.
        ("Europe/Paris", "30 2 * * *", "2026-03-27T12:00", ["03-28T01:30", "03-30T00:30"]),
        ("Europe/Paris", "30 * * * *", "2026-03-29T00:00", ["03-29T00:30", "03-29T01:30"]),
        ("Europe/Paris", "0 3 * * *", "2026-03-28T12:00", ["03-29T01:00", "03-30T01:00"]),
        ("Europe/Paris", "30 2 * * *", "2026-10-24T12:00", ["10-25T00:30", "10-26T01:30"]),
        ("Europe/Paris", "30 2 * * *", "2026-10-25T00:45", ["10-26T01:30", "10-27T01:30"]),
        ("Europe/Paris", "30 * * * *", "2026-10-25T00:00", ["10-25T00:30", "10-25T01:30"]),
        ("Europe/Paris", "*/30 2-3 * * *", "2026-10-25T00:20",
         ["10-25T00:30", "10-25T02:00", "10-25T02:30"]),
        ("America/New_York", "30 1 * * *", "2026-11-01T00:00", ["11-01T05:30", "11-02T06:30"]),
        ("America/New_York", "30 2 * * *", "2026-03-07T12:00", ["03-09T06:30", "03-10T06:30"]),
        # Lord Howe's clocks move by half an hour.
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00", ["04-04T14:45", "04-05T15:15"]),
        ("Australia/Lord_Howe", "*/30 * * * *", "2026-04-04T14:20",
         ["04-04T14:30", "04-04T15:00", "04-04T15:30"]),
        # Beirut skips midnight on March 29th.
        ("Asia/Beirut", "@daily", "2026-03-27T12:00", ["03-27T22:00", "03-29T21:00"]),
        ("Asia/Kolkata", "0 9 * * *", "2026-01-01T00:00", ["01-01T03:30", "01-02T03:30"]),
    ],
)  # fmt: skip
def test_both_changes_of_the_clock(zone: str, spec: str, start: str, due: list[str]) -> None:
    assert times(spec, start, len(due), zone) == due
    assert times(f"CRON_TZ={zone} {spec}", start, len(due)) == due


# --- Against a scan of every minute ---

_LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


@st.composite
def _parts(draw: st.DrawFn, low: int, high: int) -> str:
    kind = draw(st.sampled_from(["*", "?", "*/n", "a", "a-b", "a/n", "a-b/n"]))
    a = draw(st.integers(low, high))
    b = draw(st.integers(a, high))
    n = draw(st.integers(1, high))
    return kind.replace("n", str(n)).replace("a", str(a)).replace("b", str(b))


@st.composite
def _specs(draw: st.DrawFn) -> str:
    return " ".join(
        ",".join(draw(st.lists(_parts(low, high), min_size=1, max_size=2))) for low, high in _LIMITS
    )


def _scan(spec: str, zone: ZoneInfo, start: datetime, days: int) -> Iterator[int]:
    """Return the due times in the minutes after ``start``, found by looking at each."""
    sets = []
    for part, (low, high) in zip(spec.split(), _LIMITS, strict=True):
        values: set[int] = set()
        for each in part.split(","):
            whole, _, step = each.partition("/")
            first, _, last = whole.partition("-")
            if first in "*?":
                begin, end = low, high
            else:
                begin = int(first)
                end = int(last or (high if step else first))
            values.update(range(begin, end + 1, int(step or 1)))
        sets.append(values)
    stars = [any(e in ("*", "?", "*/1", "?/1") for e in p.split(",")) for p in spec.split()]
    moment = start.replace(second=0, microsecond=0)
    for _ in range(days * 1440):
        moment += timedelta(minutes=1)
        wall = moment.astimezone(zone)
        days_match = (wall.day in sets[2], wall.isoweekday() % 7 in sets[4])
        if (
            wall.minute in sets[0]
            and wall.hour in sets[1]
            and wall.month in sets[3]
            and (all(days_match) if stars[2] or stars[4] else any(days_match))
            and (not wall.fold or len(sets[1]) == 24)
        ):
            yield to_ms(moment)


ZONES = ["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut"]


@settings(max_examples=50, deadline=None)
@given(
    _specs(),
    st.sampled_from(ZONES),
    st.sampled_from(["2026-03-07", "2026-03-28", "2026-04-04", "2026-10-02", "2026-10-24",
                     "2026-10-31", "2027-02-27", "2026-12-30"]),
    st.integers(0, 86_399_999),
)  # fmt: skip
def test_due_moments_are_those_that_a_scan_finds(
    spec: str, zone: str, day: str, offset_ms: int
) -> None:
    start = at(day + "T00:00") + timedelta(milliseconds=offset_ms)
    try:
        parsed = parse_spec(spec, zone)
    except UsageError as error:
        assert "never matches" in str(error)  # noqa: PT017 (which specs these are is not known)
        assert not list(_scan(spec, ZoneInfo(zone), start, 2))
        return
    assert isinstance(parsed, Cron)
    expected = list(_scan(spec, ZoneInfo(zone), start, 2))[:200]
    ms = to_ms(start)
    for each in expected:
        found = parsed.next_after(ms)
        assert found == each
        ms = each
    if not expected:
        found = parsed.next_after(ms)
        assert found is None or found > to_ms(start) + 2 * 86_400_000 - 60_000
