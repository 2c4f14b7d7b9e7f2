"""Offers of a worker are used once, and expire in time."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nbqueue.broker.commands.lifecycle import Handed
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.tasks.handoff import Handoff
from nbqueue.worker.tasks.leases import LeaseTokens

LEASE = 30.0


class World:
    """A reactor with a set time, connections that send nowhere, and offers on both."""

    def __init__(self) -> None:
        self.time = 100.0
        self.on_up: list[Any] = []
        self.on_down: list[Any] = []
        self.is_up = True
        self.say: Callable[[bytes], None]
        self.taken: list[Handed] = []
        self.sent: list[Any] = []
        self.called: list[Any] = []
        context = SimpleNamespace(reactor=self, connections=self)
        self.offers = Handoff(
            cast("ServiceContext", context), LeaseTokens("w", LEASE), self.taken.append
        )
        self.on_up[0]()
        self.offers.make("q", 1000)

    def now(self) -> float:
        return self.time

    def tasks(self, queue: str) -> Any:
        return self

    def listen(self, channel: str, on_data: Callable[[bytes], None]) -> None:
        self.say = on_data

    def send(self, command: Any, on_reply: Any) -> None:
        self.sent.append(on_reply)

    def call(self, words: Any, on_reply: Any) -> None:
        self.called.append(on_reply)

    def hand(self, queue: str = "q") -> list[str]:
        """Announce a task under the offer. Returns the tokens of all that were taken."""
        self.say(b"w:1000:1 5 1 " + queue.encode() + b"\nimsg")
        return [handed.token for handed in self.taken]


def test_an_offer_is_used_once() -> None:
    world = World()
    assert world.offers.count(world.time) == 1
    assert world.hand() == ["w:1000:1"]
    assert world.offers.count(world.time) == 0
    assert world.hand() == ["w:1000:1"]


def test_an_offer_is_for_its_queue_only() -> None:
    assert World().hand("other") == []


@pytest.mark.parametrize("is_withdrawn", [False, True])
def test_one_that_has_run_out_is_known_for_as_long_as_a_lease(is_withdrawn: bool) -> None:
    for late, taken in ((LEASE - 3, ["w:1000:1"]), (LEASE + 3, [])):
        world = World()
        if is_withdrawn:
            world.offers.withdraw()
            assert world.offers.is_unsettled
        world.time += 1.5
        assert (world.offers.count(world.time), world.offers.is_unsettled) == (0, False)
        world.time += late
        # Old ones are forgotten when others become old.
        world.offers.make("q", 1000)
        world.time += 1.5
        assert world.offers.count(world.time) == 0
        assert world.hand() == taken


def test_an_offer_that_was_accepted_is_taken_back_and_may_be_used_until_then() -> None:
    world = World()
    world.sent[0](1)
    world.offers.withdraw()
    assert world.offers.is_unsettled
    world.called[0](1)
    assert not world.offers.is_unsettled


def test_one_that_was_not_accepted_is_not_waited_for_and_not_made_again() -> None:
    world = World()
    world.sent[0](0)
    assert world.offers.count(world.time) == 1
    world.offers.withdraw()
    assert (world.called, world.offers.is_unsettled) == ([], False)


def test_nor_if_it_was_taken_back_before_that_was_known() -> None:
    world = World()
    world.offers.withdraw()
    world.sent[0](0)
    world.called[0](0)
    assert not world.offers.is_unsettled
