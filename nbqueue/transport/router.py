"""Send commands to the servers that hold their keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from nbqueue.transport.blocking import BlockingConnection
from nbqueue.transport.script_call import Arg, Command
from nbqueue.transport.server import Server
from nbqueue.transport.topology import Key, Place, SingleServer, Topology

T = TypeVar("T")


class Router:
    """Sends each command to the server that holds its keys.

    There is one connection to each server.

    Raises as `BlockingConnection` does. Safe to share by threads.
    """

    def __init__(self, topology: Topology, on_open: Callable[[], None] = lambda: None) -> None:
        """``on_open`` is called each time a connection was opened."""
        self._topology = topology
        self._on_open = on_open
        self._connections: dict[int, BlockingConnection] = {}
        self._only: BlockingConnection | None = None
        """The connection of a store that is a single server."""
        if isinstance(topology, SingleServer):
            self._only = BlockingConnection(topology.server, on_open=on_open)

    def connection(self, place: Place) -> BlockingConnection:
        """Return the connection to the server that ``place`` is on."""
        if self._only is not None:
            return self._only
        return self._to(self._topology.server_for(place))

    def _to(self, server: Server) -> BlockingConnection:
        found = self._connections.get(id(server))
        if found is None:
            found = self._connections.setdefault(id(server), self._open_to(server))
        return found

    def _open_to(self, server: Server) -> BlockingConnection:
        return BlockingConnection(server, on_open=self._on_open)

    def adapt(self, command: Command[T]) -> Command[T]:
        """Return a script's call as it is sent to this store, for those that pack it themselves."""
        return command

    def run(self, batch: Iterable[Command[Any]]) -> list[Any]:
        """Run scripts, in one round trip to each server.

        Returns what their replies mean.
        """
        if self._only is not None:
            return self._only.run(batch)
        return self._scatter(batch, place_of, BlockingConnection.run)

    def try_run(self, batch: Iterable[Command[Any]]) -> list[Any]:
        """Like `run`, with `StoreDamaged` in place of a reply that cannot be read."""
        if self._only is not None:
            return self._only.try_run(batch)
        return self._scatter(batch, place_of, BlockingConnection.try_run)

    def call_each(self, calls: Iterable[tuple[Place, Sequence[Arg]]]) -> list[Any]:
        """Run plain commands, each with its place, in one round trip to each server."""
        return self._scatter(calls, _first, lambda to, some: to.call(*(words for _, words in some)))

    def try_call_each(self, calls: Iterable[tuple[Place, Sequence[Arg]]]) -> list[Any]:
        """Like `call_each`, with `StoreDamaged` in place of a reply that cannot be read."""
        return self._scatter(
            calls, _first, lambda to, some: to.try_call(*(words for _, words in some))
        )

    def _scatter(
        self,
        items: Iterable[T],
        place_of: Callable[[T], Place],
        send: Callable[[BlockingConnection, list[T]], list[Any]],
    ) -> list[Any]:
        """Send items to the servers of their places.

        Returns the replies in the items' order.
        """
        if self._only is not None:
            sent = list(items)
            return send(self._only, sent) if sent else []
        parts: dict[BlockingConnection, tuple[list[int], list[T]]] = {}
        number = 0
        for number, item in enumerate(items, 1):
            numbers, part = parts.setdefault(self.connection(place_of(item)), ([], []))
            numbers.append(number - 1)
            part.append(item)
        replies: list[Any] = [None] * number
        for connection, (numbers, part) in parts.items():
            for at, reply in zip(numbers, send(connection, part), strict=True):
                replies[at] = reply
        return replies

    def close(self) -> None:
        for connection in list(self._connections.values()):
            connection.close()
        if self._only is not None:
            self._only.close()


def place_of(command: Command[Any]) -> Place:
    """Return the place of a script: its first key."""
    return Key(command.keys[0])


def _first(call: tuple[Place, Sequence[Arg]]) -> Place:
    return call[0]
