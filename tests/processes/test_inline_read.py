"""A waiting thread reads the end of a short task; interrupts do no harm."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from waits import wait_until

import nbqueue
from nbqueue.client.completion.listener import CompletionListener
from nbqueue.client.futures.waits import DeferredInterrupt
from nbqueue.client.results.outcome import read_announcement
from nbqueue.runtime.busy_poll import BusyPoll

READ = "nbqueue.client.completion.dispatch.read_announcement"
"""Reads each message that announces ends."""


def one(x: int) -> int:
    return x


def in_a_while(x: int) -> int:
    time.sleep(0.1)
    return x


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C works, also where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the leading thread poll for long: a busy machine misses the usual 2 ms."""
    begin = BusyPoll.begin

    def for_long(self: BusyPoll) -> int:
        until = begin(self)
        return until + 30_000_000_000 if self.longest_ns == 2_000_000 else until

    monkeypatch.setattr(BusyPoll, "begin", for_long)


@pytest.fixture
def q(store_url: str, patient: None) -> Iterator[nbqueue.Client]:
    client = nbqueue.connect(store_url)
    with nbqueue.Worker(store_url, concurrency=1, log="/dev/null"):
        client.submit(one, 0).result(30)
        yield client
    client.close()


def listener_of(q: nbqueue.Client) -> CompletionListener:
    return q._session.listener


def test_the_end_is_taken_in_by_who_waits(
    q: nbqueue.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def noting(data: bytes) -> Any:
        threads.append(threading.current_thread())
        return read_announcement(data)

    monkeypatch.setattr(READ, noting)
    # Not at once: the tasks must not have ended before the wait begins.
    assert [q.submit(in_a_while, i).result(30) for i in range(5)] == list(range(5))
    assert threads == [threading.current_thread()] * 5


def test_the_thread_takes_over_when_nobody_waits(q: nbqueue.Client) -> None:
    q.submit(one, 1).result(30)
    future = q.submit(one, 2)
    wait_until(future.done)
    heard = threading.Event()
    q.submit(one, 3).add_done_callback(lambda future: heard.set())
    assert heard.wait(30)


def test_callbacks_that_wait_are_refused_there_too(q: nbqueue.Client) -> None:
    # Not done before it has its callback, which would then run at once, in this thread.
    other, errors = q.options(delay="300ms").submit(one, 1), []

    def wait(future: Any) -> None:
        try:
            q.submit(one, 2).result(30)
        except RuntimeError as error:
            errors.append(str(error))

    other.add_done_callback(wait)
    other.result(30)
    wait_until(lambda: len(errors) == 1)
    assert "a callback of a future cannot wait" in errors[0]


def interrupted_wait(q: nbqueue.Client, kind: type[BaseException]) -> tuple[Any, int]:
    """The future whose wait ended with this exception, and its result.

    On a busy machine the listener's thread may be the first to read the end of a task.
    """
    for number in range(100):
        future = q.submit(one, number)
        try:
            assert future.result(30) == number
        except kind:
            return future, number
    raise AssertionError("no end was taken in by the thread that waits")


def test_an_exception_from_a_signal_loses_no_end(
    q: nbqueue.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message was read but not delivered: the task must be looked for."""
    raised = []

    def interrupted(data: bytes) -> Any:
        if threading.current_thread() is threading.main_thread() and not raised:
            raised.append(data)
            raise SystemExit("from a handler of a signal")
        return read_announcement(data)

    monkeypatch.setattr(READ, interrupted)
    future, number = interrupted_wait(q, SystemExit)
    assert future.result(30) == number
    assert [q.submit(one, i).result(30) for i in range(3)] == [0, 1, 2]


def test_ctrl_c_comes_after_what_must_be_whole() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 (what is not reached is the point)
        with DeferredInterrupt():
            signal.raise_signal(signal.SIGINT)
            steps.append("whole")
        steps.append("not reached")
    assert steps == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_ends_a_wait_and_not_the_task(
    q: nbqueue.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(data: bytes) -> Any:
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGINT)
        return read_announcement(data)

    monkeypatch.setattr(READ, pressed)
    future, number = interrupted_wait(q, KeyboardInterrupt)
    assert future.done()
    assert future.result() == number
