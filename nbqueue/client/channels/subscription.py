"""A connection that subscribes to channels, and knows which of them are confirmed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

from nbqueue.transport import resp
from nbqueue.transport.pubsub import MESSAGES, SUBSCRIBED, MessageConnection
from nbqueue.transport.server import Server
from nbqueue.wire.keys import stored_name

ANSWER_SECONDS = 30.0
"""Seconds of silence after which the store counts as away."""

CHECK_SECONDS = 10.0
"""Seconds between two checks that a silent store is alive."""

_TRY_AGAIN_SECONDS = 60.0
_CONFIRMATIONS = (*SUBSCRIBED, b"unsubscribe", b"sunsubscribe")


class Subscription(MessageConnection):
    """A connection whose channels change.

    ``on_message`` gets channel and data, ``on_confirmed`` is called when it `is_confirmed` again.
    One thread may change it while another reads.
    """

    check_seconds = CHECK_SECONDS
    """Seconds until the next `check_alive` at the latest."""

    def __init__(
        self,
        store: Server,
        on_message: Callable[[str, bytes], None],
        on_confirmed: Callable[[], None],
    ) -> None:
        super().__init__(store)
        self._on_message = on_message
        self._on_confirmed = on_confirmed
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self.subscribed: set[str] = set()
        """The channels that are confirmed."""
        self._unconfirmed = 0
        self._check_at = time.monotonic() + CHECK_SECONDS
        self._denied_until = 0.0

    def follow(self, channels: Collection[str]) -> None:
        """Subscribe to these channels and to no others; `flush` sends the commands."""
        if self.is_denied:
            return
        more = [channel for channel in channels if channel not in self._asked]
        if more:
            self._ask(more)
        if len(self._asked) > len(channels):
            fewer = [channel for channel in self._asked if channel not in channels]
            self._ask(fewer, "UN")
            self.subscribed.difference_update(fewer)

    def _ask(self, channels: list[str], prefix: str = "") -> None:
        self._subscribe(f"{prefix}SUBSCRIBE", channels)
        with self._lock:
            self._unconfirmed += len(channels)
            if prefix:
                self._asked.difference_update(channels)
            else:
                self._asked.update(channels)

    def _subscribe(self, command: str, channels: list[str]) -> None:
        self._queue((command, *channels))

    def is_subscribed(self, channel: str) -> bool:
        """True if every message that is published on ``channel`` from now on comes here."""
        return channel in self.subscribed

    @property
    def is_denied(self) -> bool:
        """True if the store's user may not subscribe. It is tried again once a minute."""
        return time.monotonic() < self._denied_until

    @property
    def is_confirmed(self) -> bool:
        """True if the server confirmed all changes."""
        return self._unconfirmed == 0

    def check_alive(self) -> None:
        """Ask the server for a sign of life now and then.

        Raises `ConnectionLost` if it is silent for too long. The system would report a peer that
        vanished only after minutes.
        """
        now = time.monotonic()
        if now >= self._check_at:
            self._check_at = now + CHECK_SECONDS
            self.beat(ANSWER_SECONDS)
            self.flush()

    def _awaits_reply(self) -> bool:
        return super()._awaits_reply() or not self.is_confirmed

    def _dispatch(self) -> None:
        for reply in self._replies():
            if isinstance(reply, list):
                kind = reply[0]
                if kind in MESSAGES:
                    self._on_message(stored_name(reply[1]), reply[2])
                elif kind in _CONFIRMATIONS:
                    self._on_confirmation(kind, stored_name(reply[1]))
            elif isinstance(reply, resp.ReplyError) and reply.reason == "NOPERM":
                self._note_denied()
            elif isinstance(reply, resp.ReplyError) and reply.reason != "MISCONF":
                # MISCONF is the answer to a PING only: the subscription is not affected.
                raise self.server.error_for(reply)

    def _on_confirmation(self, kind: bytes, channel: str) -> None:
        self._note_confirmation()

    def _note_denied(self) -> None:
        with self._lock:
            self._denied_until = time.monotonic() + _TRY_AGAIN_SECONDS
            self._unconfirmed = 0
            self._asked, self.subscribed = set(), set()
        self._on_confirmed()

    def _note_confirmation(self) -> None:
        with self._lock:
            self._unconfirmed -= 1
            # Asked for, dropped and asked for again: which answer belongs to which does not matter
            # once all have come.
            is_confirmed = self._unconfirmed == 0
            if is_confirmed:
                self.subscribed = set(self._asked)
        if is_confirmed:
            self._on_confirmed()
