"""Names of workers, shown payloads, and workers whose process is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from nbqueue.broker.commands.presence import changed_queues, read_change
from nbqueue.wire.server_info import decode_worker, read_worker_id, shown_payload
from nbqueue.worker.worker_id import is_gone, new_worker_id

HERE = new_worker_id("here")


@pytest.mark.parametrize(
    "worker_id", ["", "a", "a:1", ":1:ab", "a:x:ab", "a:1:", "a:-1:ab", "a:1234567890:ab"]
)
def test_what_is_no_workers_id_is_not_read_as_one(worker_id: str) -> None:
    assert read_worker_id(worker_id) is None
    assert not is_gone(worker_id)


def test_the_host_of_a_worker_may_have_colons() -> None:
    assert read_worker_id("::1:7:ab") == ("::1", 7, "ab")


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b"", b""),
        (b'{"user": 1}', b'{"user": 1}'),
        (b'{\n  "user":\t1}', b'{ "user": 1}'),
        ("é".encode() * 200, "é".encode() * 200),
        ("é".encode() * 2000, "é".encode() * 199 + "…".encode()),
        (b"a" + "é".encode() * 2000, b"a" + "é".encode() * 198 + "…".encode()),
        (b"\x80\x04K", b"<3 bytes>"),
        (b"a\x00b", b"<3 bytes>"),
        (b"\xff" * 5000, b"<5,000 bytes>"),
    ],
)
def test_a_payload_is_shown_as_one_short_line(payload: bytes, shown: bytes) -> None:
    assert shown_payload(payload) == shown
    assert shown_payload(payload).decode().isprintable()


def test_a_record_that_cannot_be_read_is_none() -> None:
    assert decode_worker(b"\xff\xff") is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a /proc to look at")
def test_a_process_is_gone_when_it_has_ended_and_before_it_is_waited_for() -> None:
    assert not is_gone(HERE)
    script = "from nbqueue.worker.worker_id import new_worker_id; print(new_worker_id('here'));"
    script += "import sys; sys.stdout.flush(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        other = process.stdout.readline().strip()
        assert not is_gone(other)
        process.send_signal(signal.SIGSTOP)
        assert not is_gone(other)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(other), "it is a zombie"
    assert is_gone(other)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a /proc to look at")
def test_an_id_that_another_process_has_by_now_is_told_by_when_that_started() -> None:
    host, pid, rest = HERE.split(":")
    assert is_gone(f"{host}:{pid}:{rest[:8]}00000001{rest[16:]}")


def test_nobody_judges_a_worker_of_another_place() -> None:
    rest = HERE.rpartition(":")[2]
    place = "00000000" if rest[:8] != "00000000" else "00000001"
    assert not is_gone(f"here:999999999:{place}{rest[8:]}")
    assert not is_gone("here:999999999:0123abcd")  # of an older version, or in Go


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"w",
        b"w queues",
        b"w queues [1]",
        b"w queues 1",
        b"w queues {'a': 1}",
        b'w queues {"a/": 1}',
        b'w queues {"a": -1}',
        b'w queues {"a": true}',
        b'w queues {"a": "1"}',
        b'x queues {"a": 1}',
        b"w queues " + b"[" * 100_000,
        b'w queues {"a": \xff}',
    ],
)
def test_what_makes_no_sense_changes_no_queues(value: bytes) -> None:
    assert read_change(value, "w") is None


def test_changes_of_queues() -> None:
    assert read_change(b'w queues {"a": 2, "b": 0}', "w") == {"a": 2, "b": 0}
    assert changed_queues({"a": 1, "b": 1}, {"a": 2, "b": 0, "c": 1}) == {"a": 2, "c": 1}
    assert changed_queues({"a": 1}, {"a": 0, "x": 0}) == {}
