"""Pauses between tries, and log lines about faults that repeat."""

from __future__ import annotations

import logging
import socket

import pytest

from nbqueue.runtime.backoff import Backoff, FaultLog
from nbqueue.runtime.reactor import Reactor


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_pauses_grow_to_a_limit_and_begin_anew() -> None:
    backoff = Backoff(first=1, longest=4)
    for most in (1, 2, 4, 4):
        assert most / 2 <= backoff.pause() <= most
    backoff.reset()
    assert backoff.pause() <= 1


def test_a_fault_is_logged_once_then_each_minute_then_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    faults = FaultLog(logging.getLogger("faults"), clock)
    with caplog.at_level("INFO"):
        for second in range(125):
            clock.now = second
            faults.occurred("a", "lost %d", second)
        assert faults.over("a", "back") == 124
        assert faults.over("a", "back") is None
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(" (")[0] for text in said] == ["lost 0", "lost 60", "lost 120", "back"]
    assert "59 times" in said[1]


def test_a_fault_that_comes_and_goes_is_not_logged_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults = FaultLog(logging.getLogger("faults"), Clock())
    with caplog.at_level("INFO"):
        for _ in range(100):
            faults.occurred("a", "lost")
            faults.over("a", "back")
    assert len(caplog.records) == 20


def test_what_an_earlier_callback_stopped_watching_is_skipped() -> None:
    reactor, heard = Reactor(), []
    pairs = [socket.socketpair() for _ in range(2)]
    ears = [pair[0] for pair in pairs]

    def on_ready(ear: socket.socket) -> None:
        heard.append(ear)
        for each in ears:
            reactor.forget(each)
        reactor.stop()

    for ear, mouth in pairs:
        reactor.watch(ear, lambda ear=ear: on_ready(ear))
        mouth.send(b"x")
    reactor.run()
    reactor.close()
    assert len(heard) == 1
    for pair in pairs:
        for end in pair:
            end.close()
