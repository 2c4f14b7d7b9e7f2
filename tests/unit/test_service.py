"""The times at which the services of a worker run."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from nbqueue.clock import Clock
from nbqueue.runtime.reactor import Timer
from nbqueue.worker.maintenance.clock_sync import ClockSync
from nbqueue.worker.maintenance.service import QueueTimers, Service


class FakeReactor:
    """A reactor whose time passes when a test advances it."""

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


class FakeConnections:
    def __init__(self) -> None:
        self.is_up = True
        self.on_up: list[Callable[[], None]] = []
        self.on_down: list[Callable[[], None]] = []

    def upkeep(self, queue: str) -> Any:
        return self


class FakeClock(Clock):
    def __init__(self, reactor: FakeReactor) -> None:
        super().__init__()
        self._reactor = reactor

    def now_ms(self) -> int:
        return round(self._reactor.time * 1000)


@pytest.fixture
def context() -> Any:
    reactor = FakeReactor()
    return SimpleNamespace(reactor=reactor, connections=FakeConnections(), clock=FakeClock(reactor))


@pytest.fixture
def timers(context: Any) -> Any:
    """Timers, and the queues that they were called for, each with the time."""
    found: list[tuple[str, float]] = []
    timers = QueueTimers(
        context, lambda queue: found.append((queue, context.reactor.time)), gap=1.0
    )
    return timers, found


def test_the_first_time_that_was_set_counts(context: Any, timers: Any) -> None:
    queue_timers, found = timers
    for at in (5_000, 3_000, 4_000):
        queue_timers.set("a", at)
    queue_timers.set("b", 2_000)
    assert queue_timers.is_set("a")
    context.reactor.pass_to(10.0)
    assert found == [("b", 2.0), ("a", 3.0)]
    assert not queue_timers.is_set("a")


def test_calls_for_one_queue_are_a_gap_apart(context: Any, timers: Any) -> None:
    queue_timers, found = timers
    queue_timers.run_now("a")
    queue_timers.set("a", 0)
    queue_timers.set("b", 0)
    context.reactor.pass_to(0.5)
    assert found == [("a", 0.0), ("b", 0.0)]
    context.reactor.pass_to(5.0)
    assert found[2:] == [("a", 1.0)]


def test_a_time_far_away_gets_no_timer(timers: Any) -> None:
    timers[0].set("a", 61_000)
    assert not timers[0].is_set("a")


def test_timers_are_forgotten_once_the_store_is_lost(context: Any, timers: Any) -> None:
    queue_timers, found = timers
    queue_timers.set("a", 1_000)
    queue_timers.set("b", 3_000)
    for action in context.connections.on_down:
        action()
    context.connections.is_up = False
    queue_timers.set("a", 2_000)
    context.reactor.pass_to(10.0)
    assert found == []


def test_a_service_forgets_nothing_from_one_turn_to_the_next(context: Any) -> None:
    """Aggregators, for example, forget in `stop` what they asked the store for."""

    class Counted(Service):
        turns = stopped = 0

        def run_once(self) -> None:
            self.turns += 1

        def stop(self) -> None:
            super().stop()
            self.stopped += 1

    service = Counted(context, 2.0)
    context.connections.on_up[0]()
    context.reactor.pass_to(5.0)
    assert (service.turns, service.stopped) == (3, 0)
    context.connections.on_down[0]()
    context.reactor.pass_to(20.0)
    assert (service.turns, service.stopped) == (3, 1)


def test_the_clock_is_measured_anew_after_the_store_was_away() -> None:
    reactor, connections = FakeReactor(), FakeConnections()
    connections.registry = lambda: SimpleNamespace(call=lambda words, on_reply: None)  # type: ignore[attr-defined]
    clock = Clock()
    clock.measured(0.0, 0.0, 1_000.0)
    context: Any = SimpleNamespace(
        reactor=reactor, connections=connections, clock=clock, keys=None, queues=None, worker_id=""
    )
    ClockSync(context)
    assert clock.age() < float("inf")
    for action in connections.on_down:
        action()
    assert clock.age() == float("inf")
