"""Who hears which channel of a client's one subscription; see `Listener.hear`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from typing import Protocol

from nbqueue.broker.broker import Broker
from nbqueue.errors import StoreError

Tell = Callable[[Broker, "bytes | None"], object]
"""Gets a message; or None when the channel begins to be heard, at first and after each loss of the
connection, and again and again where our user may not listen: what was said before that must be
read from the store. It runs in the listener's thread, and may read with the broker that it gets."""

_log = logging.getLogger("nbqueue.client")


class Heard(Protocol):
    """What says whether a channel is heard."""

    def hears(self, channel: str) -> bool: ...


class ChannelListeners:
    """Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tells: dict[str, list[Tell]] = {}
        self._ungreeted: list[tuple[str, Tell]] = []

    def __bool__(self) -> bool:
        return bool(self._tells)

    def channels(self, others: Collection[str]) -> Collection[str]:
        """These and ``others``."""
        with self._lock:
            return {*others, *self._tells} if self._tells else others

    def add(self, channel: str, tell: Tell) -> None:
        with self._lock:
            self._tells.setdefault(channel, []).append(tell)
            self._ungreeted.append((channel, tell))

    def remove(self, channel: str, tell: Tell) -> None:
        """Once more is harmless."""
        with self._lock:
            tells = [each for each in self._tells.get(channel, ()) if each != tell]
            self._ungreeted = [each for each in self._ungreeted if each != (channel, tell)]
            if tells:
                self._tells[channel] = tells
            else:
                self._tells.pop(channel, None)

    def connected(self) -> None:
        """There is a new connection: whatever was said before may have been missed."""
        with self._lock:
            self._ungreeted = [
                (channel, tell) for channel, tells in self._tells.items() for tell in tells
            ]

    def greet(self, link: Heard, broker: Callable[[], Broker]) -> None:
        """Tell those whose channel is heard from now on. Raises `StoreError`: then it is to be
        done again over the next connection."""
        if not self._ungreeted:
            return
        with self._lock:
            ready = [each for each in self._ungreeted if link.hears(each[0])]
            self._ungreeted = [each for each in self._ungreeted if each not in ready]
        for _, tell in ready:
            _call(tell, broker(), None)

    def tell(self, channel: str, data: bytes, broker: Callable[[], Broker]) -> bool:
        """A message came; whether anybody hears its channel."""
        if not self._tells:
            return False
        with self._lock:
            tells = list(self._tells.get(channel, ()))
        for tell in tells:
            _call(tell, broker(), data)
        return bool(tells)


def _call(tell: Tell, broker: Broker, data: bytes | None) -> None:
    try:
        tell(broker, data)
    except StoreError:
        raise
    except Exception:
        # The user's callbacks run in there.
        _log.exception("a callback of nbqueue failed")
