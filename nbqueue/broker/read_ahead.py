"""Read slice after slice, requesting the next while the caller handles one."""

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
"""A script, or the words of a command; either may be repeated."""

_SECONDS = 30.0


def read_ahead(
    broker: Broker, queue: str, ask: Ask, following: Callable[[Any], Ask | None]
) -> Iterator[Any]:
    """Yield the reply to ``ask``, then the replies to the following requests.

    ``following`` returns the next request for each reply.

    It ends when ``following`` returns None. The broker runs the first request, which is mostly the
    only one. The others use a connection of their own: a thread would not get to send them while
    the caller computes.
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
    """A connection with one request under way; the broker repeats one that fails."""

    def __init__(self, broker: Broker, queue: str) -> None:
        self._broker = broker
        self._queue = queue
        self._connection: NonblockingConnection | None = None
        self._ask: Ask = ()
        self._found: list[Any] = []

    def send(self, ask: Ask) -> None:
        self._ask, self._found = ask, []
        try:
            connection = self._connection = self._connection or NonblockingConnection(
                self._broker.store
            )
            if isinstance(ask, Command):
                connection.send(ask, self._found.append)
            else:
                connection.call(ask, self._found.append)
            connection.flush()
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
        connection = self._connection
        if connection is None:
            return
        limit = time.monotonic() + _SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            while not self._found:
                # Before waiting, as TLS may have taken the reply off the socket already.
                connection.read()
                connection.flush()
                if self._found:
                    return
                if not selector.select(max(0.0, limit - time.monotonic())):
                    raise ConnectionLost("the store does not answer")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
