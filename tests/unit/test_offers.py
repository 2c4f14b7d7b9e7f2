"""What a worker knows of the offers that it made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nbqueue.worker.offers import Offers


@pytest.fixture
def desk() -> Any:
    """Offers on a link that notes which replies are due: to scripts, and to plain commands."""
    sent: list[Any] = []
    called: list[Any] = []
    link = SimpleNamespace(
        send=lambda command, on_reply: sent.append(on_reply),
        call=lambda words, on_reply: called.append(on_reply),
    )
    links = SimpleNamespace(tasks=link, on_up=[], on_down=[], listen=lambda channel: None)
    clock, reactor = SimpleNamespace(now_ms=lambda: 5), SimpleNamespace(now=lambda: 5.0)
    offers = Offers(reactor, links, clock, "w", 30.0)  # type: ignore[arg-type]
    return SimpleNamespace(offers=offers, sent=sent, called=called)


def test_an_offer_that_was_accepted_is_taken_back_and_may_be_used_until_then(desk: Any) -> None:
    desk.offers.make("q", "token")
    desk.sent[0](1)
    desk.offers.withdraw()
    assert desk.offers.is_unsettled
    desk.called[0](1)
    assert not desk.offers.is_unsettled


def test_one_that_was_not_accepted_is_not_waited_for_and_not_made_again(desk: Any) -> None:
    desk.offers.make("q", "token")
    desk.sent[0](0)
    assert desk.offers.count == 1
    desk.offers.withdraw()
    assert (desk.called, desk.offers.is_unsettled) == ([], False)


def test_nor_if_it_was_taken_back_before_that_was_known(desk: Any) -> None:
    desk.offers.make("q", "token")
    desk.offers.withdraw()
    desk.sent[0](0)
    desk.called[0](0)
    assert not desk.offers.is_unsettled
