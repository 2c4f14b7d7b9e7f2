"""A worker's connections with one server, which are opened and lost together.

Commands for tasks use one connection, leases and maintenance another, so that no heartbeat waits
behind a batch of results. A third one listens for messages, and each queue has one that blocks
until the queue has a task.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from nbqueue.runtime.reactor import Reactor
from nbqueue.transport.nonblocking import ConnectionLost, NonblockingConnection
from nbqueue.transport.pubsub import PubSubConnection
from nbqueue.transport.server import Server
from nbqueue.wire.keys import CANCEL_CHANNEL, queue_keys
from nbqueue.worker.unreadable_data import set_aside

log = logging.getLogger("nbqueue.worker")

WAIT_SECONDS = 30
_CHANGES = "__redis__:invalidate"

_Connection = TypeVar("_Connection", bound=NonblockingConnection)


class OpenConnection(NonblockingConnection):
    """A connection of a worker while it is open."""

    is_up = True


class DownConnection:
    """Replaces a lost connection: drops each command and never calls back.

    Parts repeat the commands that they still need when `WorkerConnections.on_up` is called.
    """

    is_up = False
    under_way = ()

    def send(self, *args: Any, **options: Any) -> None:
        """Drop the command."""

    def call(self, *args: Any, **options: Any) -> None:
        """Drop the command."""

    def gather(self, *args: Any, **options: Any) -> None:
        """Drop the commands."""


QueueConnection = OpenConnection | DownConnection


@dataclass(frozen=True, slots=True)
class ServerEvents:
    """Callbacks of the connections to one server.

    ``on_lost(error)``: one of them was lost, so none of them can be used.
    ``on_message(channel, data)``: published on a subscribed channel.
    ``on_tracking()``: the server reports changed keys from now on.
    ``on_changed(keys)``: these keys changed, which a tracked command of ``upkeep`` had read.
    ``on_denied(channel, error)``: the user may not subscribe to a channel.
    """

    on_lost: Callable[[ConnectionLost], None]
    on_message: Callable[[str, bytes], None]
    on_tracking: Callable[[], None]
    on_changed: Callable[[Any], None]
    on_denied: Callable[[str, Any], None]


class ServerConnections:
    """The connections with one server, for ``queues``."""

    command_type: type[OpenConnection] = OpenConnection
    blocking_type: type[OpenConnection] = OpenConnection
    listener_type: type[PubSubConnection] = PubSubConnection

    def __init__(
        self, reactor: Reactor, store: Server, queues: Sequence[str], events: ServerEvents
    ) -> None:
        """Open all connections, blocking; `start` watches them. Raises `StoreError`."""
        self._reactor = reactor
        self._store = store
        self._events = events
        self._own_channels: dict[bytes, Callable[[Any], None]] = {}
        self.blocking: dict[str, OpenConnection] = {}
        """The connections for commands that block, by queue."""
        self._all: list[NonblockingConnection] = []
        self._is_open = True
        channels = self._channels(queues)
        try:
            self.tasks = self._opened(self.command_type(store))
            self.upkeep = self._opened(self.command_type(store))
            self.upkeep.handle = handle_guarded
            self._listener = self._opened(
                self.listener_type(
                    store,
                    channels,
                    partial(handle_guarded, self._on_published),
                    self._on_listener_id,
                    events.on_denied,
                )
            )
            for queue in queues:
                self.blocking[queue] = self._opened(self.blocking_type(store))
        except BaseException:
            for connection in self._all:
                connection.close()
            raise

    def _channels(self, queues: Sequence[str]) -> list[str]:
        """Return the channels to subscribe to; the first is that of all queues."""
        return [CANCEL_CHANNEL, *(queue_keys(queue).wake for queue in queues)]

    def _opened(self, connection: _Connection) -> _Connection:
        self._all.append(connection)
        return connection

    @property
    def queues(self) -> set[str]:
        """The queues that have a connection."""
        return set(self.blocking)

    def start(self) -> None:
        """Watch the connections. Call it in the thread of the reactor."""
        for connection in self._all:
            self._watch(connection, writing=connection.wants_write)

    def close(self) -> None:
        """Close all connections."""
        self._is_open = False
        for connection in self._all:
            self._reactor.forget(connection)
            connection.close()
        self._all.clear()
        self.blocking.clear()
        self._own_channels.clear()

    def flush(self) -> None:
        """Send the queued commands on all connections."""
        for connection in self._all:
            if connection.wants_write:
                try:
                    connection.flush()
                except ConnectionLost as error:
                    self._events.on_lost(error)
                    return
                if connection.wants_write:
                    self._watch(connection, writing=True)

    def beat(self, answer_timeout: float) -> None:
        """Find silent connections, and ask idle ones for a sign of life."""
        waits = set(self.blocking.values())
        try:
            for connection in self._all:
                connection.beat(answer_timeout + (WAIT_SECONDS if connection in waits else 0))
        except ConnectionLost as error:
            self._events.on_lost(error)

    def add_queue(self, queue: str, on_added: Callable[[ServerConnections], None]) -> None:
        """Open the connections of another queue, then call ``on_added(self)``.

        ``on_added`` must `remove_queue` a queue that is no longer served by then.
        """
        self._listener.follow(queue_keys(queue).wake)

        def opened(connection: Any) -> None:
            if isinstance(connection, Exception):
                # Without a connection that waits, the queue would be asked for tasks only once.
                if self._is_open:
                    self._events.on_lost(ConnectionLost(str(connection)))
            elif not self._is_open or queue in self.blocking:
                connection.close()  # it came too late
            else:
                self.blocking[queue] = self._opened(connection)
                self._watch(connection)
                on_added(self)

        self._reactor.in_thread(lambda: self.blocking_type(self._store), opened)

    def remove_queue(self, queue: str) -> None:
        """Close the connections of a queue."""
        self._listener.unfollow(queue_keys(queue).wake)
        connection = self.blocking.pop(queue, None)
        if connection is not None:
            self._all.remove(connection)
            self._reactor.forget(connection)
            connection.close()

    def listen(self, channel: str, on_data: Callable[[Any], None]) -> None:
        """Subscribe to a channel whose messages only ``on_data`` gets."""
        self._own_channels[channel.encode()] = on_data
        self._listener.follow(channel)

    def _watch(self, connection: NonblockingConnection, *, writing: bool = False) -> None:
        def write() -> None:
            try:
                connection.flush()
            except ConnectionLost as error:
                self._events.on_lost(error)
                return
            if not connection.wants_write:
                self._watch(connection)

        self._reactor.watch(
            connection, partial(self._read, connection), on_writable=write if writing else None
        )

    def _read(self, connection: NonblockingConnection) -> None:
        try:
            connection.read()
        except ConnectionLost as error:
            self._events.on_lost(error)

    def _on_published(self, message: Any) -> None:
        _, channel, data = message
        own = self._own_channels.get(channel)
        if own is not None:
            own(data)
        else:
            self._events.on_message(channel.decode(), data)

    def _on_listener_id(self, number: int) -> None:
        """Have the server report changed keys to the listener.

        The server may deny that to this user.
        """

        def begin(reply: Any) -> None:
            if reply == b"OK":
                self._events.on_tracking()

        self.listen(_CHANGES, self._events.on_changed)
        self.upkeep.call(("CLIENT", "TRACKING", "ON", "REDIRECT", number, "OPTIN"), begin)


def handle_guarded(handle: Callable[[Any], object], value: Any) -> None:
    """Call ``handle`` with data of the store, and log its exceptions.

    The decoders should find bad data; this function catches the errors that they miss. Use it only
    for work that is repeated anyway, or that may be left out.
    """
    try:
        handle(value)
    except ConnectionLost:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        key = f"{where.name} in {where.filename.rpartition('/')[2]}:{where.lineno}"
        set_aside("reply or message", key, f"{type(error).__name__}: {error}")
        log.debug("the exception was:", exc_info=True)
