from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.durations import format_duration, parse_duration
from nbqueue.errors import InvalidDuration


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (90, 90),
        (0, 0),
        (0.25, 0.25),
        (timedelta(minutes=1, milliseconds=5), 60.005),
        ("90s", 90),
        ("90", 90),
        ("1.5", 1.5),
        ("10m", 600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (" 7d ", 604_800),
        ("2w", 1_209_600),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("1H", 3600),
        (np.int64(90), 90),
        (np.float32(0.25), 0.25),
        (Fraction(1, 4), 0.25),
    ],
)
def test_durations_are_read_as_people_write_them(value: Any, seconds: float) -> None:
    assert parse_duration(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    ["10 minuts", "", "  ", "m", "1h-30m", "-5s", "1 2", "1y", "nan", "inf", -1, float("nan"),
     float("inf"), timedelta(seconds=-1), True, np.int64(-1), np.bool_(True), None, [1], b"1s"],
)  # fmt: skip
def test_anything_else_is_refused_by_name(value: Any) -> None:
    with pytest.raises(InvalidDuration, match="timeout="):
        parse_duration(value, "timeout")


def test_the_error_shows_the_forms_that_there_are() -> None:
    with pytest.raises(InvalidDuration, match='"1h30m"'):
        parse_duration("soon")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0000421, "42µs"),
        (0.42, "420ms"),
        (1.25, "1.2s"),
        (12.4, "12s"),
        (59.7, "1m 00s"),
        (63, "1m 03s"),
        (3_600, "1h 00m"),
        (90_000, "1d 01h"),
        (-63, "-1m 03s"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(
    st.lists(
        st.tuples(st.integers(0, 1000), st.sampled_from(["ms", "s", "m", "h", "d", "w"])),
        min_size=1,
        max_size=5,  # 5,000 weeks are less than the limit of a hundred years
    )
)
def test_parts_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    one_by_one = sum(parse_duration(f"{number}{unit}") for number, unit in parts)
    assert parse_duration(text) == pytest.approx(one_by_one)


@given(st.floats(0, 1e9))
def test_whatever_is_said_is_short(seconds: float) -> None:
    assert 0 < len(format_duration(seconds)) <= 11
