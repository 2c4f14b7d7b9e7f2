"""What a worker offered to take, so that it need not ask; see `nbqueue.broker.commands.handoff`."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from nbqueue.broker.commands.handoff import (
    Handed,
    hand_channel,
    offer,
    offer_text,
    read_handed,
    withdraw,
)
from nbqueue.runtime.reactor import Reactor
from nbqueue.transport.resp import ReplyError
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.unreadable_data import set_aside

log = logging.getLogger("nbqueue.worker")

_LASTS = 1.0
"""Seconds that an offer holds. A worker that stops without a word swallows one task for so long as
its lease, and only if that is written within this time."""
_SETTLES = 0.5
"""Seconds in which we are told of a task that was handed to us before an offer was taken back."""
MOST_OFFERS = 8
"""Few, as they are for tasks that come one by one."""


class _Offer(NamedTuple):
    queue: str
    text: str
    """Empty if it was not accepted: the queue has a limit of its own, and its tasks are fetched."""
    until: float


class Handoff:
    """The offers of one worker that may still be used, all in one queue.

    They are for tasks that come one by one: who did something a moment ago may soon do it again.
    """

    def __init__(
        self,
        reactor: Reactor,
        links: WorkerConnections,
        worker_id: str,
        lease_seconds: float,
        on_handed: Callable[[Handed], None],
    ) -> None:
        """``on_handed`` gets each task that was handed to this worker."""
        self._reactor = reactor
        self._links = links
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._on_handed = on_handed
        self._queue = ""
        # By their tokens, in the order of their times.
        self._open: dict[str, _Offer] = {}
        self._leaving: dict[str, _Offer] = {}
        """Those taken back, until it is known whether they had been used."""
        self._old: dict[str, _Offer] = {}
        """Those of which nobody knows, and that a late message may yet name: we may have slept."""
        self._connections = 0
        self._channel = ""
        links.on_up.append(self._on_up)
        links.on_down.append(self._on_down)

    def count(self, now: float) -> int:
        """How many may be used now, on the reactor's clock."""
        made = self._open
        if made and next(iter(made.values())).until <= now:
            self._retire(made, now)
        return len(made)

    @property
    def is_unsettled(self) -> bool:
        """Whether a task may be on its way here, although all was taken back."""
        if self._leaving:
            self._retire(self._leaving, self._reactor.now())
        return bool(self._leaving)

    def make(self, queue: str, token: str, now_ms: int) -> None:
        """Offer to take one task of ``queue``, which is then ours under this token."""
        link = self._links.tasks
        if link is None:
            return
        if queue != self._queue:
            self.withdraw()
            self._queue = queue
        lasts_ms = int(_LASTS * 1000)
        until_ms = now_ms + lasts_ms
        lease_until_ms = until_ms + int(self._lease_seconds * 1000)
        text = offer_text(until_ms, lease_until_ms, self._channel, token)
        self._open[token] = _Offer(queue, text, self._reactor.now() + _LASTS)
        link.send(offer(queue, text, lasts_ms), partial(self._on_offered, token))

    def withdraw(self) -> None:
        """Take all back."""
        link = self._links.tasks
        if link is None or not self._open:
            return
        until = self._reactor.now() + _SETTLES
        for token, made in self._open.items():
            if not made.text:
                continue
            # If it has been used, what is on its way comes soon; so long it counts as unsettled.
            self._leaving[token] = made._replace(until=until)
            link.call(withdraw(made.queue, made.text), partial(self._on_withdrawn, token))
        self._open.clear()

    def _on_data(self, data: bytes) -> None:
        """We were told of a task that was handed to us."""
        handed = read_handed(data)
        if handed is None or self._take(handed.token, handed.queue) is None:
            # Anybody may publish there. A task that is ours after all is found by its lease.
            set_aside("message of a task", "channel", "this worker did not offer to take it")
            return
        self._on_handed(handed)

    def _take(self, token: str, queue: str) -> _Offer | None:
        """The offer that was used, for a task of ``queue``. It cannot be used again."""
        for offers in (self._open, self._leaving, self._old):
            made = offers.get(token)
            if made is not None and made.queue == queue:
                return offers.pop(token)
        return None

    def _retire(self, offers: dict[str, _Offer], now: float) -> None:
        """Those that have run out become old ones; and the old ones are forgotten in time."""
        gone = _take_until(offers, now)
        if gone:
            _take_until(self._old, now - self._lease_seconds)
            self._old.update(gone)

    def _on_offered(self, token: str, reply: Any) -> None:
        if isinstance(reply, ReplyError):
            log.debug("store refused an offer error=%s", reply)
        elif reply == 0:
            self._leaving.pop(token, None)
            if token in self._open:
                # It stays until it would have run out, so that we do not offer again and again.
                self._open[token] = self._open[token]._replace(text="")

    def _on_withdrawn(self, token: str, reply: Any) -> None:
        if reply == 1:
            self._leaving.pop(token, None)

    def _on_up(self) -> None:
        self._connections += 1
        self._channel = hand_channel(self._worker_id, self._connections)
        self._links.listen(self._channel, self._on_data)

    def _on_down(self) -> None:
        # What was handed meanwhile is found when the store is back; see `recovering`.
        self._open.clear()
        self._leaving.clear()
        self._old.clear()


def _take_until(offers: dict[str, _Offer], end: float) -> dict[str, _Offer]:
    """Take out those that have run out by then: the first ones, as they lie in that order."""
    gone = dict(itertools.takewhile(lambda item: item[1].until <= end, offers.items()))
    for token in gone:
        del offers[token]
    return gone
