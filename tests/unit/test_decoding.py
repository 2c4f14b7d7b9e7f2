"""Decoders give a value in range, or none, whatever another program wrote."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.limits import Limit, limit_fault, read_numbers
from nbqueue.wire import decoding, server_reports
from nbqueue.wire.messages import ServerInfo
from nbqueue.wire.schedule_record import decode_entry
from nbqueue.wire.task_events import read_event
from nbqueue.wire.timeouts import read_timeouts

DIGITS = b"9" * 400
ODD = [
    *(
        b"",
        b"inf",
        b"-inf",
        b"nan",
        b"1e999",
        b"-1",
        b"0",
        b"1.5",
        b"abc",
        b"0x10",
        b"\xff",
        b" 1 ",
    ),
    *(DIGITS, b"-" + DIGITS, b"9" * 5_000, b"9223372036854775808", "٣".encode()),
]
ANY_BYTES = st.one_of(st.sampled_from(ODD), st.binary(max_size=60))


@given(ANY_BYTES)
def test_a_number_is_in_range_or_none(value: bytes) -> None:
    found = decoding.whole_number(value, 0, 100)
    assert found is None or 0 <= found <= 100
    shown = decoding.whole_number(value.decode("utf-8", "replace"))
    assert shown is None or abs(shown) < 2**62


@pytest.mark.parametrize(
    ("value", "expected"), [(b"7", 7), (b"-7", -7), ("7", 7), (7, 7), (None, None), (2**62, None)]
)
def test_what_is_a_number_is_read(value: Any, expected: int | None) -> None:
    assert decoding.whole_number(value) == expected


@given(ANY_BYTES)
def test_a_score_is_a_time_that_a_datetime_can_hold_or_none(value: bytes) -> None:
    for unit in (1, 1000):
        found = decoding.time_ms(value, unit)
        assert found is None or isinstance(decoding.moment(found), datetime)


def test_what_is_a_time_is_read() -> None:
    assert decoding.time_ms(b"1700000000", 1000) == 1_700_000_000_000
    assert decoding.time_ms(b"1.7e+12") == 1_700_000_000_000


@given(st.one_of(ANY_BYTES, st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000])))
def test_json_is_read_or_raises_value_error(raw: bytes) -> None:
    try:
        value = decoding.json_value(raw)
    except ValueError:
        return
    json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize("raw", [b'"\\ud800"', b"NaN", b"[Infinity]", b"9" * 5_000, b"\xff"])
def test_json_that_cannot_be_written_again_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decoding.json_value(raw)
    with pytest.raises(ValueError, match="no JSON object"):
        decoding.json_object(b"[]")


@given(st.lists(ANY_BYTES, max_size=9))
def test_pairs_and_entries_of_any_length_are_read(words: list[bytes]) -> None:
    assert len(decoding.pairs(words)) == len(words) // 2
    assert all(isinstance(name, str) for name in decoding.stream_entry(words))
    read_event(words)


@given(st.text(max_size=40))
def test_numbers_of_a_limit_are_in_range_or_none(text: str) -> None:
    most, rate = read_numbers(text)
    assert most is None or 1 <= most <= 10**9
    assert rate is None or Limit("x", rate=rate)


@pytest.mark.parametrize(
    "text", ["9" * 400 + "|||", "-1|||", "0|||", "|nan|1|", "|1|0|", "|1|1|" + "9" * 5_000]
)
def test_numbers_that_no_limit_has_are_a_fault(text: str) -> None:
    assert limit_fault(text) is not None
    assert limit_fault(Limit("x", concurrency=4, rate="10/s").numbers) is None


@given(st.text("0123456789|-", max_size=30) | st.just("9" * 400 + "|1"))
def test_exact_limits_are_in_range_or_none(text: str) -> None:
    found = read_timeouts({"nbq:limits": text})
    assert found is None or all(0 <= each < 2**62 for each in found)


@given(st.binary(max_size=200))
def test_any_bytes_are_no_schedule_or_one_in_range(raw: bytes) -> None:
    with pytest.raises(ValueError, match="no schedule"):
        decode_entry(raw)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_a_time_stamp_is_a_moment_or_none(seconds: int, nanos: int) -> None:
    info = ServerInfo()
    info.start_time.seconds, info.start_time.nanos = seconds, nanos
    server_reports.moment(info.start_time)
