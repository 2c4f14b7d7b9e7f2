"""A connection that follows channels, and knows which of them it surely hears."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from nbqueue.store.connection import Store
from nbqueue.transport import resp
from nbqueue.transport.pubsub import MessageConnection
from nbqueue.wire.keys import stored_name

ANSWER_SECONDS = 30.0
"""How long the store may be silent and still counts as there."""

CHECK_SECONDS = 10.0
"""How often it is asked for a sign of life."""

_TRY_AGAIN_SECONDS = 60.0


class Subscription(MessageConnection):
    """A link that changes what it is subscribed to.

    ``on_message`` gets channel and data, ``on_settled`` is called when it `is_settled` again. One
    thread may change it while another reads.
    """

    def __init__(
        self,
        store: Store,
        on_message: Callable[[str, bytes], None],
        on_settled: Callable[[], None],
    ) -> None:
        super().__init__(store)
        self._on_message = on_message
        self._on_settled = on_settled
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._heard: set[str] = set()
        self._unconfirmed = 0
        self._check_at = time.monotonic() + CHECK_SECONDS
        self._deaf_until = 0.0

    def follow(self, channels: Collection[str]) -> None:
        """Be subscribed to these channels and no others; `Link.flush` sends what is to be said."""
        if self.is_deaf:
            return
        more = [channel for channel in channels if channel not in self._asked]
        if more:
            self._say("SUBSCRIBE", more)
        if len(self._asked) > len(channels):
            fewer = [channel for channel in self._asked if channel not in channels]
            self._say("UNSUBSCRIBE", fewer)
            self._heard.difference_update(fewer)

    def _say(self, command: str, channels: list[str]) -> None:
        self._queue((command, *channels))
        with self._lock:
            self._unconfirmed += len(channels)
            if command == "SUBSCRIBE":
                self._asked.update(channels)
            else:
                self._asked.difference_update(channels)

    def hears(self, channel: str) -> bool:
        """True if whatever is published on ``channel`` from now on will come here."""
        return channel in self._heard

    @property
    def is_deaf(self) -> bool:
        """True if our user may not listen to these channels. It is tried again once a minute."""
        return time.monotonic() < self._deaf_until

    @property
    def is_settled(self) -> bool:
        """True if the server confirmed all that it was asked."""
        return self._unconfirmed == 0

    def check_alive(self) -> None:
        """Raise `LinkLost` if the other side is silent for too long. It is asked now and then.

        Of a peer that vanished without a word the system would tell us after minutes.
        """
        now = time.monotonic()
        if now >= self._check_at:
            self._check_at = now + CHECK_SECONDS
            self.beat(ANSWER_SECONDS)
            self.flush()

    def _awaits_reply(self) -> bool:
        return super()._awaits_reply() or not self.is_settled

    def _dispatch(self) -> None:
        for reply in self._replies():
            if isinstance(reply, list):
                self._understand(reply)
            elif isinstance(reply, resp.ReplyError) and reply.reason == "NOPERM":
                self._be_deaf()
            elif isinstance(reply, resp.ReplyError) and reply.reason != "MISCONF":
                # MISCONF is the answer to a PING only: subscribing goes on.
                raise self.server.error_for(reply)

    def _be_deaf(self) -> None:
        with self._lock:
            self._deaf_until = time.monotonic() + _TRY_AGAIN_SECONDS
            self._unconfirmed = 0
            self._asked, self._heard = set(), set()
        self._on_settled()

    def _understand(self, reply: list[Any]) -> None:
        kind, name = reply[0], reply[1]
        if kind == b"message":
            self._on_message(stored_name(name), reply[2])
        elif kind in (b"subscribe", b"unsubscribe"):
            with self._lock:
                self._unconfirmed -= 1
                # Asked for, dropped and asked for again: which answer belongs to which does not
                # matter once all have come.
                is_settled = self._unconfirmed == 0
                if is_settled:
                    self._heard = set(self._asked)
            if is_settled:
                self._on_settled()
