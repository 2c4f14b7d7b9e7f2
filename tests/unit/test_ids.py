"""Ids are short, sort by time, and contain the time of their creation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.wire.ids import LENGTH, NUMBERS, made_ms, make_ids, prefix_of, random_prefix
from nbqueue.wire.keys import LISTENER_LENGTH

NOW_MS = 1_800_000_000_000
times = st.integers(1_735_689_600_000, 62**7 - 1)
numbers = st.integers(0, NUMBERS - 1)


@given(times, numbers, times, numbers)
def test_ids_sort_by_time_and_number(at: int, number: int, later: int, another: int) -> None:
    [one], [other] = make_ids("client", at, [number]), make_ids("client", later, [another])
    assert (one < other) == ((at, number) < (later, another))
    assert (one == other) == ((at, number) == (later, another))
    assert len(one) == LENGTH == 17
    assert made_ms(one, at) == at


def test_numbers_begin_again() -> None:
    assert make_ids("client", NOW_MS, [NUMBERS + 7]) == make_ids("client", NOW_MS, [7])


def test_after_the_year_2081_they_have_another_character() -> None:
    [last], [next] = make_ids("client", 62**7 - 1, [0]), make_ids("client", 62**7, [0])
    assert (len(last), len(next)) == (17, 18)
    assert last == "clientzzzzzzz0000"
    assert next == "client100000000000"
    assert made_ms(next, 2**53) is None


@pytest.mark.parametrize(
    "task_id",
    ["", "nightly", "a" * 16, "a" * 17, "0" * 17, "client-VFMNaQ0001", "é" * 17, "V" * 18],
)
def test_other_ids_tell_no_time(task_id: str) -> None:
    assert made_ms(task_id, NOW_MS) is None


def test_a_time_that_is_still_to_come_is_none() -> None:
    [task_id] = make_ids("client", NOW_MS, [1])
    assert made_ms(task_id, NOW_MS - 3_600_000) == NOW_MS
    assert made_ms(task_id, NOW_MS - 2 * 86_400_000) is None


@given(st.binary(min_size=32, max_size=32))
def test_prefixes_name_a_channel(digest: bytes) -> None:
    for prefix in (prefix_of(digest), random_prefix()):
        assert len(prefix) == LISTENER_LENGTH
        assert prefix.isascii()
        assert prefix.isalnum()
    assert prefix_of(digest) == prefix_of(digest)
