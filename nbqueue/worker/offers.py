"""What a worker offered to take, so that it need not ask; see `nbqueue.broker.offering`."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, NamedTuple

from nbqueue.broker.offering import Handed, hand_channel, offer, offer_text, read_handed, withdraw
from nbqueue.broker.resp import ReplyError
from nbqueue.clock import Clock
from nbqueue.worker.links import Links
from nbqueue.worker.reactor import Reactor

log = logging.getLogger("nbqueue.worker")

_LASTS = 1.0
"""Seconds that an offer holds. A worker that stops without a word swallows one task for so long as
its lease, and only if that is written within this time."""
_SETTLES = 0.5
"""Seconds in which we are told of a task that was handed to us before an offer was taken back."""
MOST_OFFERS = 8
"""Few, as they are for tasks that come one by one."""


class _Offer(NamedTuple):
    text: str
    until: float


class Offers:
    """The offers of one worker that may still be used, all in one queue.

    They are for tasks that come one by one: who did something a moment ago may soon do it again.
    """

    def __init__(
        self, reactor: Reactor, links: Links, clock: Clock, worker_id: str, lease_ms: int
    ) -> None:
        self._reactor = reactor
        self._links = links
        self._clock = clock
        self._worker_id = worker_id
        self._lease_ms = lease_ms
        self._queue = ""
        self._open: dict[str, _Offer] = {}
        self._leaving: dict[str, _Offer] = {}
        """Those taken back, until it is known whether they had been used."""
        self._connections = 0
        self._channel = ""
        links.on_up.append(self._on_up)
        links.on_down.append(self._on_down)

    @property
    def count(self) -> int:
        """How many may be used."""
        _forget_old(self._open, self._reactor.now())
        return len(self._open)

    @property
    def is_unsettled(self) -> bool:
        """Whether a task may be on its way here, although all was taken back."""
        _forget_old(self._leaving, self._reactor.now())
        return bool(self._leaving)

    def make(self, queue: str, token: str) -> None:
        """Offer to take one task of ``queue``, which is then ours under this token."""
        link = self._links.tasks
        if link is None:
            return
        if queue != self._queue:
            self.withdraw()
            self._queue = queue
        lasts_ms = int(_LASTS * 1000)
        until_ms = self._clock.now_ms() + lasts_ms
        text = offer_text(until_ms, self._lease_ms, self._channel, token)
        self._open[token] = _Offer(text, self._reactor.now() + _LASTS)
        link.send(offer(queue, text, lasts_ms), self._on_offered)

    def withdraw(self) -> None:
        """Take all back."""
        link = self._links.tasks
        if link is None:
            return
        for token, (text, _) in self._open.items():
            self._leaving[token] = _Offer(text, self._reactor.now() + _SETTLES)
            link.call(withdraw(self._queue, text), partial(self._on_withdrawn, token))
        self._open.clear()

    def handed(self, data: bytes) -> Handed | None:
        """A task was handed to this worker."""
        handed = read_handed(data)
        if handed is None:
            log.warning("store said of a task what makes no sense size=%d", len(data))
            return None
        self._open.pop(handed.token, None)
        self._leaving.pop(handed.token, None)
        return handed

    def _on_offered(self, reply: Any) -> None:
        if isinstance(reply, ReplyError):
            log.debug("store refused an offer error=%s", reply)

    def _on_withdrawn(self, token: str, reply: Any) -> None:
        if reply == 1:
            self._leaving.pop(token, None)

    def _on_up(self) -> None:
        self._connections += 1
        self._channel = hand_channel(self._worker_id, self._connections)
        self._links.listen(self._channel)

    def _on_down(self) -> None:
        # What was handed meanwhile is found when the store is back; see `recovering`.
        self._open.clear()
        self._leaving.clear()


def _forget_old(offers: dict[str, _Offer], now: float) -> None:
    while offers:
        token = next(iter(offers))  # the oldest
        if offers[token].until > now:
            break
        del offers[token]
