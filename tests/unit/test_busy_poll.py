"""Busy polling returns early replies, gives up otherwise, and adapts."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from nbqueue.runtime.busy_poll import BusyPoll, limit_waits


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_it_gets_what_is_there(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.send(b"word")
    assert BusyPoll().receive(ours, 100) == b"word"


def test_it_gets_what_comes_in_time(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    spin = BusyPoll(longest=10.0)
    threading.Timer(0.02, theirs.send, [b"late"]).start()
    assert spin.receive(ours, 100) == b"late"


def test_it_gets_the_end_of_a_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    assert BusyPoll().receive(ours, 100) == b""


def test_it_gives_up_and_then_sleeps_more_and_more_often(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = pair
    spin = BusyPoll(longest=1e-6)
    tried = []
    for _ in range(20):
        tried.append(spin.begin() != 0)
        if tried[-1]:
            spin.failed()
    # Awake, then asleep once, twice, four times, eight times in between.
    assert [i for i, awake in enumerate(tried) if awake] == [0, 2, 5, 10, 19]
    assert spin.receive(ours, 100) is None
    spin = BusyPoll(longest=1.0)
    spin.failed()
    assert spin.begin() == 0
    assert spin.begin() > time.monotonic_ns()
    spin.helped()
    spin.failed()
    assert spin.begin() == 0
    assert spin.begin() != 0


def test_it_never_sleeps_for_good(pair: tuple[socket.socket, socket.socket]) -> None:
    spin = BusyPoll()
    for _ in range(50):
        spin.failed()
    assert [spin.begin() != 0 for _ in range(65)] == [False] * 64 + [True]


def test_a_socket_with_a_limit_gives_up(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    assert limit_waits(ours, 0.05)
    began = time.monotonic()
    with pytest.raises(BlockingIOError):
        ours.recv(1)
    assert 0.04 < time.monotonic() - began < 5
