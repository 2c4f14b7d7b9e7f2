"""Schedules as stored, and as seen by programs of Asynq."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.wire.decoding import LAST_MS
from nbqueue.wire.messages import FAR_TIMEOUT, GO_ZERO_SECONDS, SchedulerEntry, TaskMessage
from nbqueue.wire.schedule_record import (
    ScheduleEntry,
    asynq_entry,
    decode_entry,
    encode_entry,
    go_duration,
    option_texts,
    task_id_of,
)

MESSAGE = TaskMessage(type="t", payload=b"\x00\xff", queue="q", retry=3, timeout=FAR_TIMEOUT)
ENTRY = ScheduleEntry("s", "@daily", "UTC", MESSAGE.SerializeToString(), "", "a1b2c3")
TEXT = st.text(st.characters(codec="utf-8"), min_size=1)
NUMBER = st.integers(0, 2**53 - 1)
TIME = st.integers(0, LAST_MS)


@given(
    st.builds(
        ScheduleEntry,
        id=TEXT,
        spec=TEXT,
        tz=TEXT,
        message=st.just(ENTRY.message),
        text=TEXT,
        revision=st.text("0123456789abcdef", min_size=6, max_size=6),
        missed=st.sampled_from(["once", "skip", "all"]),
        overlap=st.booleans(),
        jitter_ms=NUMBER,
        start_ms=TIME,
        until_ms=TIME,
        max_runs=NUMBER,
        unique_ms=NUMBER,
        name=TEXT,
        name_seconds=st.integers(1, 10**12),
        owner=TEXT,
        created_ms=TIME,
    )
)
def test_what_is_encoded_is_read_back(entry: ScheduleEntry) -> None:
    assert decode_entry(encode_entry(entry)) == entry


def test_what_a_later_version_added_is_skipped() -> None:
    values = {**json.loads(encode_entry(ENTRY)), "later": 1}
    assert decode_entry(json.dumps(values).encode()) == ENTRY


@pytest.mark.parametrize(
    "changes",
    [
        {"message": "?"},
        {"message": 3},
        {"message": ""},
        {"message": "/w=="},
        {"id": 3},
        {"id": ""},
        {"overlap": 1},
        {"jitter_ms": "1"},
        {"jitter_ms": True},
        {"missed": "never"},
        {"revision": "abc"},
        {"jitter_ms": -1},
        {"max_runs": 10**400},
        {"start_ms": 2**53},
        {"until_ms": -1},
        {"unique_ms": 1e3},
        {"name": "n", "name_seconds": 0},
        {"spec": "\ud800"},
    ],
)
def test_what_is_no_schedule_is_refused(changes: dict[str, object]) -> None:
    values = {**json.loads(encode_entry(ENTRY)), **changes}
    with pytest.raises(ValueError, match="no schedule"):
        decode_entry(json.dumps(values).encode())


@given(st.binary() | st.sampled_from([b"{}", b"[]", b"null", b"[" * 100_000]))
def test_bytes_that_are_none_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="no schedule"):
        decode_entry(raw)


def test_ids_of_tasks_differ_by_time_and_revision_only_behind_the_channel() -> None:
    at = 1_767_268_800_000
    first = task_id_of("q", ENTRY, at)
    assert len(first) == 17
    assert first == task_id_of("q", ENTRY, at)
    others = [
        task_id_of("q", ENTRY, at + 1000),
        task_id_of("q", ENTRY.changed(revision="ffffff"), at),
    ]
    assert len({first, *others}) == 3
    assert {each[:6] for each in others} == {first[:6]}
    assert task_id_of("q2", ENTRY, at)[:6] != first[:6]


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"),
        (500, "500ms"),
        (1_000, "1s"),
        (1_500, "1.5s"),
        (1_050, "1.05s"),
        (60_000, "1m0s"),
        (1_800_000, "30m0s"),
        (3_600_000, "1h0m0s"),
        (90_061_001, "25h1m1.001s"),
    ],
)
def test_durations_are_written_as_go_writes_them(ms: int, text: str) -> None:
    assert go_duration(ms) == text


def test_options_are_written_as_go_writes_them() -> None:
    message = TaskMessage(
        queue='a"b\\c', retry=0, timeout=90, deadline=1_767_571_200, retention=7200
    )
    assert option_texts('a"b\\c', message, 1000) == [
        'Queue("a\\"b\\\\c")',
        "MaxRetry(0)",
        "Timeout(1m30s)",
        "Deadline(Mon Jan  5 00:00:00 UTC 2026)",
        "Unique(1s)",
        "Retention(2h0m0s)",
    ]
    # "None" is a far time-out, which Go could show only as an odd number of hours.
    assert option_texts("q", MESSAGE) == ['Queue("q")', "MaxRetry(3)"]


def test_a_schedule_that_never_ran_and_never_will_has_the_zero_times_of_go() -> None:
    record = SchedulerEntry.FromString(asynq_entry("q", ENTRY, None, None))
    assert record.id == "q:s"
    assert record.next_enqueue_time.seconds == GO_ZERO_SECONDS
    assert record.prev_enqueue_time.seconds == GO_ZERO_SECONDS
    assert record.task_payload == b"\x00\xff"
    record = SchedulerEntry.FromString(asynq_entry("q", ENTRY.changed(text="f(1)"), 1_500, 500))
    assert (record.next_enqueue_time.seconds, record.next_enqueue_time.nanos) == (1, 500_000_000)
    assert (record.prev_enqueue_time.seconds, record.prev_enqueue_time.nanos) == (0, 500_000_000)
    assert record.task_payload == b"f(1)"
