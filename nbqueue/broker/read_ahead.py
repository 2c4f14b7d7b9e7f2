"""Reading slice after slice: while the caller is busy with one, the next one is on its way."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nbqueue.broker.broker import Broker
from nbqueue.errors import StoreError
from nbqueue.transport import resp
from nbqueue.transport.nonblocking import ConnectionLost, NonblockingConnection
from nbqueue.transport.script_call import Arg, Command

Ask = Command[Any] | Sequence[Arg]
"""A script, or the words of a command; both may be repeated."""

_SECONDS = 30.0


def read_ahead(
    broker: Broker, queue: str, ask: Ask, following: Callable[[Any], Ask | None]
) -> Iterator[Any]:
    """The reply to ``ask``, and then to what is ``following`` a reply, until that is None.

    The broker answers the first, which is mostly the only one. Others have a connection of their
    own: a thread would not get to send them while the caller computes.
    """
    reply = _answer(broker, queue, ask)
    next_ask = following(reply)
    ahead: _Ahead | None = None
    try:
        while next_ask is not None:
            ahead = ahead or _Ahead(broker, queue)
            ahead.send(next_ask)
            yield reply
            reply = ahead.receive()
            next_ask = following(reply)
    finally:
        if ahead is not None:
            ahead.close()
    yield reply


def _answer(broker: Broker, queue: str, ask: Ask) -> Any:
    return broker.run(ask) if isinstance(ask, Command) else broker.call(ask, on=queue)[0]


class _Ahead:
    """A connection with one question under way. What it cannot answer, the broker is asked."""

    def __init__(self, broker: Broker, queue: str) -> None:
        self._broker = broker
        self._queue = queue
        self._link: NonblockingConnection | None = None
        self._ask: Ask = ()
        self._found: list[Any] = []

    def send(self, ask: Ask) -> None:
        self._ask, self._found = ask, []
        try:
            link = self._link = self._link or NonblockingConnection(self._broker.store)
            if isinstance(ask, Command):
                link.send(ask, self._found.append)
            else:
                link.call(ask, self._found.append)
            link.flush()
        except (ConnectionLost, StoreError, OSError):
            self.close()

    def receive(self) -> Any:
        try:
            self._wait()
        except (ConnectionLost, StoreError, OSError):
            self.close()
        if not self._found or isinstance(self._found[0], resp.ReplyError):
            return _answer(self._broker, self._queue, self._ask)
        return self._found[0]

    def _wait(self) -> None:
        link = self._link
        if link is None:
            return
        limit = time.monotonic() + _SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(link, selectors.EVENT_READ)
            while not self._found:
                # First, as TLS may have taken it off the socket already.
                link.read()
                link.flush()
                if self._found:
                    return
                if not selector.select(max(0.0, limit - time.monotonic())):
                    raise ConnectionLost("the store does not answer")

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
