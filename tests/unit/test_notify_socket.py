"""Datagrams to the service manager, and what becomes of those that cannot be sent."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from nbqueue.calls.keys.task_mark import executor_environment
from nbqueue.runtime.notify_socket import NotifySocket


@pytest.mark.parametrize("is_abstract", [False, True])
def test_states_arrive_in_one_datagram(tmp_path: Path, is_abstract: bool) -> None:
    name = str(tmp_path / "notify")[-90:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if is_abstract else str(tmp_path / "notify"))
        manager.settimeout(10)
        address = "@" + name if is_abstract else str(tmp_path / "notify")
        NotifySocket({"NOTIFY_SOCKET": address}, pytest.fail).send("READY=1", "STATUS=ready ✓")
        assert manager.recv(1000).decode() == "READY=1\nSTATUS=ready ✓"


@pytest.mark.parametrize("address", ["/nowhere/notify", "@nbqueue-nobody", "/" + "x" * 500, "/\0"])
def test_a_missing_manager_is_no_error_and_one_warning(address: str) -> None:
    warnings: list[str] = []
    notify_socket = NotifySocket({"NOTIFY_SOCKET": address}, warnings.append)
    for _ in range(3):
        notify_socket.send("READY=1")
    assert len(warnings) == 1
    assert "service manager" in warnings[0]


def test_a_full_manager_blocks_nobody(tmp_path: Path) -> None:
    warnings: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        notify_socket = NotifySocket({"NOTIFY_SOCKET": str(tmp_path / "n")}, warnings.append)
        for _ in range(5000):
            notify_socket.send("STATUS=" + "x" * 1000)
            if warnings:
                break
        assert "timed out" in warnings[0]


def test_addresses_of_other_kinds_are_refused_and_none_is_silent() -> None:
    warnings: list[str] = []
    assert not NotifySocket({"NOTIFY_SOCKET": "vsock:2:1234"}, warnings.append).is_there
    assert "vsock:2:1234" in warnings[0]
    assert not NotifySocket({}, pytest.fail).is_there


@pytest.mark.parametrize(
    ("micros", "pid", "seconds"),
    [
        ("30000000", "", 30),
        ("30000000", "own", 30),
        ("30000000", "1", 0),
        ("", "", 0),
        ("-5", "", 0),
        ("9" * 400, "", 0),
    ],
)
def test_a_watchdog_is_obeyed_if_it_is_meant_for_this_process(
    micros: str, pid: str, seconds: float
) -> None:
    environ = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": micros, "WATCHDOG_PID": pid}
    if pid == "own":
        environ["WATCHDOG_PID"] = str(os.getpid())
    assert NotifySocket(environ, pytest.fail).watchdog_seconds == seconds


def test_executors_do_not_see_the_socket() -> None:
    environ = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2", "HOME": "/h"}
    assert set(executor_environment(environ)) == {"HOME", "NBQUEUE_IN_TASK"}
