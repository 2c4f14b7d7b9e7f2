"""Offers of a worker to take tasks directly from clients, without a fetch.

See `nbqueue.broker.commands.lifecycle`.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from nbqueue.broker.commands.lifecycle import (
    Handed,
    add_offer,
    hand_channel,
    offer_text,
    read_handed,
    withdraw_offer,
)
from nbqueue.transport.resp import ReplyError
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.tasks.leases import LeaseTokens
from nbqueue.worker.unreadable_data import set_aside

log = logging.getLogger("nbqueue.worker")

_LASTS = 1.0
"""Seconds for which an offer is valid.

If a worker dies, a task that takes up its offer within this time waits until its lease runs out.
"""
_SETTLES = 0.5
"""Seconds in which the message about a task can follow a withdrawn offer."""
MOST_OFFERS = 8
"""The maximum number of offers.

Offers are for tasks that come one by one, so a few are enough.
"""


class _Offer(NamedTuple):
    """An offer to take a task of a queue, valid until a reactor time."""

    queue: str
    text: str
    """Empty if the store refused the offer.

    Tasks of queues with limits are always fetched.
    """
    until: float


class Handoff:
    """The valid offers of one worker, all in one queue."""

    def __init__(
        self,
        context: ServiceContext,
        tokens: LeaseTokens,
        on_handed: Callable[[Handed], None],
    ) -> None:
        """``on_handed`` gets each task that was handed to this worker."""
        self._reactor = context.reactor
        self._connections = context.connections
        self._tokens = tokens
        self._on_handed = on_handed
        self._queue = ""
        # By their tokens, in the order of their times.
        self._open: dict[str, _Offer] = {}
        self._leaving: dict[str, _Offer] = {}
        """Withdrawn offers, until it is known whether they had been used."""
        self._old: dict[str, _Offer] = {}
        """Offers that ran out. A delayed message may still name one."""
        self._connected = 0
        self._channels: dict[str, str] = {}
        """The channels that are subscribed to, by queue."""
        context.connections.on_up.append(self._on_up)
        context.connections.on_down.append(self._on_down)

    def count(self, now: float) -> int:
        """Return the number of valid offers at ``now``, on the reactor's clock."""
        made = self._open
        if made and next(iter(made.values())).until <= now:
            self._retire(made, now)
        return len(made)

    @property
    def is_unsettled(self) -> bool:
        """True if a withdrawn offer may have been used."""
        if self._leaving:
            self._retire(self._leaving, self._reactor.now())
        return bool(self._leaving)

    def make(self, queue: str, now_ms: int) -> None:
        """Offer to take one task of ``queue``."""
        connection = self._connections.tasks(queue)
        if not connection.is_up:
            return
        if queue != self._queue:
            self.withdraw()
            self._queue = queue
        token, lasts_ms = self._tokens.new(now_ms), int(_LASTS * 1000)
        until_ms = now_ms + lasts_ms
        lease_until_ms = until_ms + self._tokens.lease_ms
        channel = self._channels.get(queue) or self._listen(queue)
        text = offer_text(until_ms, lease_until_ms, channel, token)
        self._open[token] = _Offer(queue, text, self._reactor.now() + _LASTS)
        connection.send(add_offer(queue, text, lasts_ms), partial(self._on_offered, token))

    def _listen(self, queue: str) -> str:
        channel = hand_channel(queue, self._tokens.worker_id, self._connected)
        self._channels[queue] = channel
        self._connections.listen(channel, self._on_data)
        return channel

    def withdraw(self) -> None:
        """Withdraw all offers."""
        if not self._open:
            return
        connection = self._connections.tasks(self._queue)
        if not connection.is_up:
            return
        until = self._reactor.now() + _SETTLES
        for token, made in self._open.items():
            if not made.text:
                continue
            # If it was used, the message about its task comes within this time.
            self._leaving[token] = made._replace(until=until)
            connection.call(
                withdraw_offer(made.queue, made.text), partial(self._on_withdrawn, token)
            )
        self._open.clear()

    def _on_data(self, data: bytes) -> None:
        """Handle the message about a task that was handed over."""
        handed = read_handed(data)
        if handed is not None:
            for offers in (self._open, self._leaving, self._old):
                made = offers.get(handed.token)
                if made is not None and made.queue == handed.queue:
                    del offers[handed.token]
                    self._on_handed(handed)
                    return
        # Any program may publish there. If this worker has the task, its lease shows it.
        set_aside("message of a task", "channel", "this worker did not offer to take it")

    def _retire(self, offers: dict[str, _Offer], now: float) -> None:
        """Retire expired offers, and forget retired ones after a lease."""
        gone = _take_until(offers, now)
        if gone:
            _take_until(self._old, now - self._tokens.seconds)
            self._old.update(gone)

    def _on_offered(self, token: str, reply: Any) -> None:
        if isinstance(reply, ReplyError):
            log.debug("store refused an offer error=%s", reply)
        elif reply == 0:
            self._leaving.pop(token, None)
            if token in self._open:
                # It stays until it runs out, so that no new one is made all the time.
                self._open[token] = self._open[token]._replace(text="")

    def _on_withdrawn(self, token: str, reply: Any) -> None:
        if reply == 1:
            self._leaving.pop(token, None)

    def _on_up(self) -> None:
        self._connected += 1
        self._channels.clear()

    def _on_down(self) -> None:
        # A task that was handed over meanwhile is found by `LostAttempts` when the store is back.
        self._open.clear()
        self._leaving.clear()
        self._old.clear()


def _take_until(offers: dict[str, _Offer], end: float) -> dict[str, _Offer]:
    """Remove and return the offers that expire by ``end``.

    They are the first ones.
    """
    gone = dict(itertools.takewhile(lambda item: item[1].until <= end, offers.items()))
    for token in gone:
        del offers[token]
    return gone
