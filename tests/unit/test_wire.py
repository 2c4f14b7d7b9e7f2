"""Stored data, byte for byte, against the tables of Asynq's protocol."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protobuf import bytes_field, decode_task, encode_task, number_field

from nbqueue.errors import UsageError
from nbqueue.wire import fields, keys, messages, states
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import TaskMessage

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (keys.QUEUES, "asynq:queues"),
        (keys.SERVERS, "asynq:servers"),
        (keys.WORKERS, "asynq:workers"),
        (keys.SCHEDULERS, "asynq:schedulers"),
        (keys.CANCEL_CHANNEL, "asynq:cancel"),
        (keys.server_info("h", 7, "s-1"), "asynq:servers:{h:7:s-1}"),
        (keys.server_tasks("h", 7, "s-1"), "asynq:workers:{h:7:s-1}"),
        (keys.scheduler_entries("h:7:s-1"), "asynq:schedulers:{h:7:s-1}"),
        (keys.scheduler_history("e-1"), "asynq:scheduler_history:e-1"),
        (queue_keys("Q").task("ID"), "asynq:{Q}:t:ID"),
        (queue_keys("Q").task_prefix, "asynq:{Q}:t:"),
        (queue_keys("Q").pending, "asynq:{Q}:pending"),
        (queue_keys("Q").active, "asynq:{Q}:active"),
        (queue_keys("Q").lease, "asynq:{Q}:lease"),
        (queue_keys("Q").scheduled, "asynq:{Q}:scheduled"),
        (queue_keys("Q").retry, "asynq:{Q}:retry"),
        (queue_keys("Q").archived, "asynq:{Q}:archived"),
        (queue_keys("Q").completed, "asynq:{Q}:completed"),
        (queue_keys("Q").paused, "asynq:{Q}:paused"),
        (queue_keys("Q").processed, "asynq:{Q}:processed"),
        (queue_keys("Q").failed, "asynq:{Q}:failed"),
        (queue_keys("Q").processed_on(date(2026, 3, 9)), "asynq:{Q}:processed:2026-03-09"),
        (queue_keys("Q").failed_on(date(2026, 3, 9)), "asynq:{Q}:failed:2026-03-09"),
        (queue_keys("Q").groups, "asynq:{Q}:groups"),
        (queue_keys("Q").group("G"), "asynq:{Q}:g:G"),
        (queue_keys("Q").aggregation_set("G", "S"), "asynq:{Q}:g:G:S"),
        (queue_keys("Q").aggregation_sets, "asynq:{Q}:aggregation_sets"),
    ],
)
def test_key_names_are_those_of_asynq(found: str, expected: str) -> None:
    assert found == expected


@pytest.mark.parametrize(
    "state", ["pending", "active", "scheduled", "retry", "archived", "completed"]
)
def test_a_state_names_the_key_that_holds_its_ids(state: str) -> None:
    assert queue_keys("Q").by_state(state) == f"asynq:{{Q}}:{state}"
    assert getattr(queue_keys("Q"), state) == f"asynq:{{Q}}:{state}"


def test_states_are_those_of_asynq_and_waiting() -> None:
    asynq = {"active", "pending", "scheduled", "retry", "archived", "completed", "aggregating"}
    assert set(states.ALL) == asynq | {"waiting"}
    assert {"completed", "archived"} == states.FINAL


def test_every_key_of_a_queue_of_ours_begins_with_our_prefix_and_shares_its_slot() -> None:
    found = queue_keys("Q")
    own = [
        found.events,
        found.attempts,
        found.code(b"\x01\xab"),
        found.code_index,
        found.wake,
        found.name("n"),
        found.end_channel("0123456789abc"),
    ]
    assert all(key.startswith("nbqueue:{Q}:") for key in own)
    assert len(set(own)) == len(own)
    assert found.code(b"\x01\xab").endswith(":01ab")
    assert found.end_channel("0123456789abc") == "nbqueue:{Q}:end:012345"


def test_fields_are_those_of_asynq_and_ours_have_a_prefix() -> None:
    found = {value for name, value in vars(fields).items() if name.isupper()}
    asynq = {"msg", "state", "pending_since", "unique_key", "group", "result"}
    assert asynq <= found
    assert all(name.startswith("nbq:") for name in found - asynq)


@pytest.mark.parametrize(
    ("payload", "end"),
    [
        (None, ""),
        (b"", "d41d8cd98f00b204e9800998ecf8427e"),
        (b'{"user_id":123}', hashlib.md5(b'{"user_id":123}').hexdigest()),
        (b"\x00\xff", hashlib.md5(b"\x00\xff").hexdigest()),
    ],
)
def test_a_unique_lock_ends_with_the_digest_of_the_payload(payload: Any, end: str) -> None:
    assert queue_keys("q").unique("email:send", payload) == f"asynq:{{q}}:unique:email:send:{end}"


@pytest.mark.parametrize("name", ["default", "a-b_c.d:e", "Ünïcode", "with space", "0"])
def test_a_queue_may_have_a_name_that_asynq_and_its_tools_can_read(name: str) -> None:
    assert keys.check_queue_name(name) == name


@pytest.mark.parametrize("name", ["", " ", "\t", " a", "a ", "a{", "}a", "a/b", "a\nb", "a\x00", 3])
def test_a_queue_name_that_breaks_slots_or_paths_is_refused(name: Any) -> None:
    with pytest.raises(UsageError, match="queue="):
        queue_keys(name)


TIMESTAMP = number_field(1, 1_700_000_000) + number_field(2, 5)
ZERO_TIME = number_field(1, -62_135_596_800)


def _timestamp(message: Any, field: str, seconds: int, nanos: int = 0) -> None:
    getattr(message, field).seconds = seconds
    getattr(message, field).nanos = nanos


def _task_message() -> Any:
    return messages.TaskMessage(
        type="t",
        payload=b"\xff\x00",
        id="i",
        queue="q",
        retry=25,
        retried=3,
        error_msg="é",
        timeout=1800,
        deadline=2_000_000_000,
        unique_key="asynq:{q}:unique:t:",
        last_failed_at=1_700_000_000,
        retention=86_400,
        completed_at=1_700_000_001,
        group_key="g",
        headers={"k": "v"},
    )


def _server_info() -> Any:
    found = messages.ServerInfo(
        host="h",
        pid=7,
        server_id="s",
        concurrency=8,
        queues={"low": 1},
        strict_priority=True,
        status="active",
        active_worker_count=2,
    )
    _timestamp(found, "start_time", 1_700_000_000, 5)
    return found


def _worker_info() -> Any:
    found = messages.WorkerInfo(
        host="h",
        pid=7,
        server_id="s",
        task_id="i",
        task_type="t",
        task_payload=b"\xff",
        queue="q",
    )
    _timestamp(found, "start_time", 1_700_000_000, 5)
    _timestamp(found, "deadline", messages.GO_ZERO_SECONDS)
    return found


def _scheduler_entry() -> Any:
    found = messages.SchedulerEntry(
        id="e",
        spec="@every 30s",
        task_type="t",
        task_payload=b"\xff",
        enqueue_options=['Queue("q")', "MaxRetry(3)"],
    )
    _timestamp(found, "next_enqueue_time", 1_700_000_000, 5)
    _timestamp(found, "prev_enqueue_time", messages.GO_ZERO_SECONDS)
    return found


def _enqueue_event() -> Any:
    found = messages.SchedulerEnqueueEvent(task_id="i")
    _timestamp(found, "enqueue_time", 1_700_000_000, 5)
    return found


GOLDEN = {
    "TaskMessage": (
        _task_message,
        b"\x0a\x01t\x12\x02\xff\x00\x1a\x01i\x22\x01q\x28\x19\x30\x03\x3a\x02\xc3\xa9"
        b"\x40\x88\x0e\x48\x80\xa8\xd6\xb9\x07\x52\x13asynq:{q}:unique:t:"
        b"\x58\x80\xe2\xcf\xaa\x06\x60\x80\xa3\x05\x68\x81\xe2\xcf\xaa\x06\x72\x01g"
        b"\x7a\x06\x0a\x01k\x12\x01v",
    ),
    "ServerInfo": (
        _server_info,
        bytes_field(1, b"h")
        + number_field(2, 7)
        + bytes_field(3, b"s")
        + number_field(4, 8)
        + bytes_field(5, bytes_field(1, b"low") + number_field(2, 1))
        + number_field(6, 1)
        + bytes_field(7, b"active")
        + bytes_field(8, TIMESTAMP)
        + number_field(9, 2),
    ),
    "WorkerInfo": (
        _worker_info,
        bytes_field(1, b"h")
        + number_field(2, 7)
        + bytes_field(3, b"s")
        + bytes_field(4, b"i")
        + bytes_field(5, b"t")
        + bytes_field(6, b"\xff")
        + bytes_field(7, b"q")
        + bytes_field(8, TIMESTAMP)
        + bytes_field(9, ZERO_TIME),
    ),
    "SchedulerEntry": (
        _scheduler_entry,
        bytes_field(1, b"e")
        + bytes_field(2, b"@every 30s")
        + bytes_field(3, b"t")
        + bytes_field(4, b"\xff")
        + bytes_field(5, b'Queue("q")')
        + bytes_field(5, b"MaxRetry(3)")
        + bytes_field(6, TIMESTAMP)
        + bytes_field(7, ZERO_TIME),
    ),
    "SchedulerEnqueueEvent": (
        _enqueue_event,
        bytes_field(1, b"i") + bytes_field(2, TIMESTAMP),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_message_has_the_bytes_of_the_protocol(name: str) -> None:
    make, golden = GOLDEN[name]
    message = make()
    assert message.SerializeToString(deterministic=True) == golden
    assert type(message).FromString(golden) == message
    assert message.DESCRIPTOR.full_name == f"asynq.{name}"


def test_our_own_encoder_of_the_tests_agrees_with_the_golden_bytes() -> None:
    golden = GOLDEN["TaskMessage"][1]
    assert encode_task(decode_task(golden)) == golden


def test_gos_zero_time_is_the_first_of_january_of_the_year_one() -> None:
    assert (date(1, 1, 1) - date(1970, 1, 1)).days * 86_400 == messages.GO_ZERO_SECONDS
    assert ZERO_TIME == b"\x08\x80\x92\xb8\xc3\x98\xfe\xff\xff\xff\x01"


def test_nothing_set_is_no_bytes_and_no_bytes_are_nothing_set() -> None:
    assert messages.TaskMessage().SerializeToString() == b""
    assert messages.TaskMessage.FromString(b"") == messages.TaskMessage()


@pytest.mark.parametrize("completed_at", [1, 127, 128, 1_700_000_000, 2**40])
@pytest.mark.parametrize("before", [0, 1_600_000_000])
def test_with_completed_at_means_what_encoding_again_would(completed_at: int, before: int) -> None:
    message = _task_message()
    message.completed_at = before
    message.headers["a"] = "b"
    msg = messages.with_completed_at(message.SerializeToString(), completed_at)
    message.completed_at = completed_at
    assert messages.TaskMessage.FromString(msg) == message
    assert decode_task(msg) == decode_task(message.SerializeToString())


def test_a_far_timeout_is_a_duration_that_go_can_count() -> None:
    assert messages.FAR_TIMEOUT > 50 * 365 * 86_400
    assert messages.FAR_TIMEOUT * 1_000_000_000 < 2**63
    # Go adds it to the present; its nanoseconds since 1970 end in 2262.
    assert (4_000_000_000 + messages.FAR_TIMEOUT) * 1_000_000_000 < 2**63


@pytest.mark.parametrize(
    ("text", "clean"),
    [("", ""), ("plain é 🐍", "plain é 🐍"), ("a\udc80b", "a?b"), ("\ud800", "?")],
)
def test_clean_text_can_be_written_as_utf8(text: str, clean: str) -> None:
    assert messages.clean_text(text) == clean
    assert messages.TaskMessage(error_msg=clean).SerializeToString() is not None


def test_the_generated_code_is_current(tmp_path: Path) -> None:
    protoc = shutil.which("protoc", path=str(Path(sys.executable).parent))
    if protoc is None:
        assert not os.environ.get("CI"), "protoc is missing"
        pytest.skip("protoc is not installed beside this Python")
    subprocess.run(
        [
            protoc,
            "-I.",
            f"--python_out={tmp_path}",
            f"--pyi_out={tmp_path}",
            "nbqueue/wire/asynq.proto",
        ],
        cwd=ROOT,
        check=True,
    )
    for name in ("asynq_pb2.py", "asynq_pb2.pyi"):
        made = (tmp_path / "nbqueue" / "wire" / name).read_bytes()
        assert made == (ROOT / "nbqueue" / "wire" / name).read_bytes(), f"{name}: run protoc again"


@given(
    st.builds(
        TaskMessage,
        type=st.text(max_size=40),
        queue=st.text(max_size=10),
        retry=st.integers(0, 100),
        timeout=st.integers(0, 2**40),
        deadline=st.integers(0, 2**40),
        retention=st.integers(0, 2**40),
        unique_key=st.text(max_size=20),
        group_key=st.text(max_size=20),
        headers=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4),
    ),
    st.text(min_size=1, max_size=200),
    st.binary(min_size=1, max_size=300),
)
def test_an_encoder_writes_what_protobuf_writes(
    message: TaskMessage, task_id: str, payload: bytes
) -> None:
    encoded = messages.message_encoder(message)(task_id, payload)
    message.id, message.payload = task_id, payload
    assert encoded == message.SerializeToString(deterministic=True)
