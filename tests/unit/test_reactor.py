"""The event loop runs until its condition is met, or its time is up."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from nbqueue.runtime.reactor import Reactor


@pytest.fixture(params=[selectors.DefaultSelector, selectors.SelectSelector])
def reactor(request: pytest.FixtureRequest) -> Iterator[Reactor]:
    found = Reactor(request.param())
    yield found
    found.close()


def test_it_runs_until_a_file_was_ready(reactor: Reactor) -> None:
    ours, theirs = socket.socketpair()
    found: list[bytes] = []
    with ours, theirs:
        reactor.watch(ours, lambda: found.append(ours.recv(10)))
        theirs.send(b"a")
        assert reactor.run_until(lambda: bool(found), 10)
        reactor.forget(ours)
    assert found == [b"a"]


def test_it_runs_until_another_thread_posted_something(reactor: Reactor) -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: reactor.post(lambda: found.append(1)))
    thread.start()
    assert reactor.run_until(lambda: bool(found), 10)
    thread.join()


def test_it_begins_a_round_when_another_thread_wakes_it(reactor: Reactor) -> None:
    rounds: list[int] = []
    reactor.every_round(lambda: rounds.append(1))
    thread = threading.Thread(target=reactor.wake)
    thread.start()
    assert reactor.run_until(lambda: bool(rounds), 10)
    thread.join()


def test_it_runs_again_after_the_exception_of_a_callback(reactor: Reactor) -> None:
    ours, theirs = socket.socketpair()
    found: list[bytes] = []

    def read() -> None:
        found.append(ours.recv(10))
        if len(found) == 1:
            raise ValueError("mine")
        reactor.stop()

    with ours, theirs:
        reactor.watch(ours, read)
        theirs.send(b"a")
        with pytest.raises(ValueError, match="mine"):
            reactor.run()
        theirs.send(b"b")
        reactor.run()
        reactor.forget(ours)
    assert found == [b"a", b"b"]


def test_it_can_be_woken_after_it_was_closed() -> None:
    closed = Reactor()
    closed.close()
    closed.wake()


def test_it_gives_up_when_its_time_is_up(reactor: Reactor) -> None:
    began = time.monotonic()
    assert not reactor.run_until(lambda: False, 0.05)
    assert 0.04 < time.monotonic() - began < 5
    assert reactor.run_until(lambda: True, 0.0)


def test_exceptions_of_callbacks_are_raised(reactor: Reactor) -> None:
    def fail() -> None:
        raise ValueError("mine")

    reactor.post(fail)
    with pytest.raises(ValueError, match="mine"):
        reactor.run_until(lambda: False, 10)
