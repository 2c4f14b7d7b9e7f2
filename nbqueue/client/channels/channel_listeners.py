"""Callbacks for the channels to which a client is subscribed, besides the ends of its tasks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from typing import Protocol

from nbqueue.broker.broker import Broker
from nbqueue.errors import StoreError

OnMessage = Callable[[Broker, "bytes | None"], object]
"""Called in the listener's thread with a broker and each message of a channel.

The message is None when the subscription begins, at first and after each loss of the connection,
and twice a second where the store's user may not subscribe. What was published before must then be
read from the store.
"""

_log = logging.getLogger("nbqueue.client")


class Subscribed(Protocol):
    """Knows which channels are subscribed to."""

    def is_subscribed(self, channel: str) -> bool: ...


class ChannelListeners:
    """The callbacks by channel. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: dict[str, list[OnMessage]] = {}
        self._new: list[tuple[str, OnMessage]] = []
        """Channels and callbacks that were not yet called with None on this connection."""

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def channels(self, others: Collection[str]) -> Collection[str]:
        """Return the channels that have callbacks, and ``others``."""
        with self._lock:
            return {*others, *self._callbacks} if self._callbacks else others

    def add(self, channel: str, callback: OnMessage) -> None:
        """Call ``callback`` with the messages of a channel."""
        with self._lock:
            self._callbacks.setdefault(channel, []).append(callback)
            self._new.append((channel, callback))

    def remove(self, channel: str, callback: OnMessage) -> None:
        """Undo `add`. Doing so again is harmless."""
        with self._lock:
            left = [each for each in self._callbacks.get(channel, ()) if each != callback]
            self._new = [each for each in self._new if each != (channel, callback)]
            if left:
                self._callbacks[channel] = left
            else:
                self._callbacks.pop(channel, None)

    def restart(self) -> None:
        """Call each callback with None again: messages may have been missed."""
        with self._lock:
            self._new = [
                (channel, callback)
                for channel, callbacks in self._callbacks.items()
                for callback in callbacks
            ]

    def begin(self, subscribed: Subscribed, broker: Callable[[], Broker]) -> None:
        """Call the new callbacks of subscribed channels with None.

        Raises `StoreError`: then it is to be done again over the next connection.
        """
        if not self._new:
            return
        with self._lock:
            ready = [each for each in self._new if subscribed.is_subscribed(each[0])]
            self._new = [each for each in self._new if each not in ready]
        for _, callback in ready:
            _call(callback, broker(), None)

    def dispatch(self, channel: str, data: bytes, broker: Callable[[], Broker]) -> None:
        """Call the callbacks of a channel with a message."""
        with self._lock:
            callbacks = list(self._callbacks.get(channel, ()))
        for callback in callbacks:
            _call(callback, broker(), data)


def _call(callback: OnMessage, broker: Broker, data: bytes | None) -> None:
    try:
        callback(broker, data)
    except StoreError:
        raise
    except Exception:
        # The user's callbacks run in there.
        _log.exception("a callback of nbqueue failed")
