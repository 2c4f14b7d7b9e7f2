"""When the parts that keep order do so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nbqueue.clock import Clock
from nbqueue.runtime.reactor import Timer
from nbqueue.worker.maintenance.service import Alarms, Service


class FakeReactor:
    """Time passes when a test says so."""

    def __init__(self) -> None:
        self.time = 0.0
        self.timers: list[Timer] = []

    def now(self) -> float:
        return self.time

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.time + seconds, action))
        return self.timers[-1]

    def pass_to(self, at: float) -> None:
        while True:
            due = [each for each in self.timers if each.action is not None and each.at <= at]
            if not due:
                break
            timer = min(due, key=lambda each: each.at)
            self.timers.remove(timer)
            self.time = timer.at
            assert timer.action is not None
            timer.action()
        self.time = at


class FakeLinks:
    def __init__(self) -> None:
        self.upkeep: Any = object()
        self.on_up: list[Callable[[], None]] = []
        self.on_down: list[Callable[[], None]] = []


class FakeClock(Clock):
    def __init__(self, reactor: FakeReactor) -> None:
        super().__init__()
        self._reactor = reactor

    def now_ms(self) -> int:
        return round(self._reactor.time * 1000)


@pytest.fixture
def parts() -> Any:
    reactor = FakeReactor()
    return reactor, FakeLinks(), FakeClock(reactor)


@pytest.fixture
def rung(parts: Any) -> Any:
    reactor, links, clock = parts
    found: list[tuple[str, float]] = []
    alarms = Alarms(
        reactor, links, clock, lambda queue: found.append((queue, reactor.time)), gap=1.0
    )
    return alarms, found


def test_the_first_time_that_was_set_counts(parts: Any, rung: Any) -> None:
    reactor, (alarms, found) = parts[0], rung
    for at in (5_000, 3_000, 4_000):
        alarms.set("a", at)
    alarms.set("b", 2_000)
    assert alarms.is_set("a")
    reactor.pass_to(10.0)
    assert found == [("b", 2.0), ("a", 3.0)]
    assert not alarms.is_set("a")


def test_between_two_calls_lies_the_gap(parts: Any, rung: Any) -> None:
    reactor, (alarms, found) = parts[0], rung
    alarms.ring("a")
    alarms.set("a", 0)
    alarms.set("b", 0)
    reactor.pass_to(0.5)
    assert found == [("a", 0.0), ("b", 0.0)]
    reactor.pass_to(5.0)
    assert found[2:] == [("a", 1.0)]


def test_what_is_far_away_gets_no_timer(parts: Any, rung: Any) -> None:
    rung[0].set("a", 61_000)
    assert not rung[0].is_set("a")


def test_what_was_set_is_forgotten_once_the_store_is_away(parts: Any, rung: Any) -> None:
    reactor, links, _ = parts
    alarms, found = rung
    alarms.set("a", 1_000)
    alarms.set("b", 3_000)
    for action in links.on_down:
        action()
    links.upkeep = None
    alarms.set("a", 2_000)
    reactor.pass_to(10.0)
    assert found == []


def test_a_service_forgets_nothing_from_one_turn_to_the_next(parts: Any) -> None:
    """Aggregators, say, forget in `stop` what they asked the store for."""
    reactor, links, clock = parts

    class Counted(Service):
        turns = stopped = 0

        def run_once(self) -> None:
            self.turns += 1

        def stop(self) -> None:
            super().stop()
            self.stopped += 1

    service = Counted(reactor, links, clock, 2.0)
    links.on_up[0]()
    reactor.pass_to(5.0)
    assert (service.turns, service.stopped) == (3, 0)
    links.on_down[0]()
    reactor.pass_to(20.0)
    assert (service.turns, service.stopped) == (3, 1)
