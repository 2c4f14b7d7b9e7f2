"""A worker's connections to its store: opened, lost, and opened again.

Commands for tasks use one connection, leases and maintenance another, so that no heartbeat waits
behind a batch of results. A third one listens for messages, and each queue has one that blocks
until the queue has a task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from nbqueue.errors import StoreUnsuitable
from nbqueue.runtime.backoff import Backoff
from nbqueue.runtime.reactor import Reactor, Timer
from nbqueue.store.connection import Store
from nbqueue.store.rights import MissingRights, refused_channel, slower
from nbqueue.transport.nonblocking import ConnectionLost, NonblockingConnection
from nbqueue.transport.pubsub import PubSubConnection
from nbqueue.wire.keys import CANCEL_CHANNEL, queue_keys
from nbqueue.worker.served_queues import ServedQueues
from nbqueue.worker.store_refusals import faults
from nbqueue.worker.unreadable_data import handle_guarded

log = logging.getLogger("nbqueue.worker")

WAIT_SECONDS = 30
_CHANGES = "__redis__:invalidate"
_POLL_SECONDS = 1.0
_LOST, _UNFIT = "store", "unfit store"
_BEATS = 3
"""How often the connections are checked within the time allowed for an answer."""


class OpenConnection(NonblockingConnection):
    """A connection of a worker while it is open."""

    is_up = True


class DownConnection:
    """Stands in for a connection that is lost: drops each command, and never calls back.

    Parts send again what they still need when `WorkerConnections.on_up` is called.
    """

    is_up = False
    under_way = 0

    def send(self, *args: Any, **options: Any) -> None:
        """Drop the command."""

    def call(self, *args: Any, **options: Any) -> None:
        """Drop the command."""

    def gather(self, *args: Any, **options: Any) -> None:
        """Drop the commands."""


QueueConnection = OpenConnection | DownConnection

_DOWN = DownConnection()


class WorkerConnections:
    """Connections to the store, asked for by queue.

    `tasks` and `upkeep` always return a connection; one that is down drops what it is given. All
    connections lead to one server: if one is lost, all are closed and opened again.

    Parts append callbacks to these lists when they are made:

    ``on_up``: everything is connected, for the first time or again.
    ``on_down``: everything was lost.
    ``on_message``: ``(channel, data)`` was published on a subscribed channel.
    ``on_poll``: called every second while the store denies the user some of the channels.
    ``on_tracking``: the server reports changed keys from now on; called after ``on_up``.
    ``on_changed``: these keys changed, which a tracked command of `upkeep` had read.

    The pause before the next attempt to connect grows until `confirm` is called, so a server that
    accepts connections and refuses every command is not asked more often than one that is away.
    ``answer_timeout`` (seconds): after so long without an answer the store counts as lost.
    """

    def __init__(
        self,
        reactor: Reactor,
        store: Store,
        queues: ServedQueues,
        answer_timeout: float = 30.0,
    ) -> None:
        self._reactor = reactor
        self._store = store
        self._queues = queues.names
        self._tasks: QueueConnection = _DOWN
        self._upkeep: QueueConnection = _DOWN
        self._waits: dict[str, NonblockingConnection] = {}
        self._all: list[NonblockingConnection] = []
        self._listener: PubSubConnection | None = None
        self._own_channels: dict[bytes, Callable[[Any], None]] = {}
        self._backoff = Backoff()
        self._answer_timeout = answer_timeout
        self._closed = False
        self._poll_timer: Timer | None = None
        self._denied: dict[str, str] = {}
        """Channels that the user may not subscribe to, each with the server's error."""
        self._warned_of: set[str] = set()
        self.on_up: list[Callable[[], None]] = []
        self.on_down: list[Callable[[], None]] = []
        self.on_message: list[Callable[[str, bytes], None]] = []
        self.on_poll: list[Callable[[], None]] = []
        self.on_tracking: list[Callable[[], None]] = []
        self.on_changed: list[Callable[[Any], None]] = []
        reactor.after(answer_timeout / _BEATS, self._beat)

    def tasks(self, queue: str) -> QueueConnection:
        """Return the connection for the tasks of ``queue``: fetching, results, output."""
        return self._tasks

    def upkeep(self, queue: str) -> QueueConnection:
        """Return the connection for leases and maintenance of ``queue``."""
        return self._upkeep

    def registry(self) -> QueueConnection:
        """Return the connection for keys of no queue: lists of workers and queues, the time."""
        return self._upkeep

    @property
    def is_up(self) -> bool:
        """Whether the store is connected, for all queues."""
        return self._tasks.is_up

    @property
    def awaits_reply(self) -> bool:
        """Whether a command about tasks is still unanswered."""
        return self._tasks.under_way > 0

    def connect(self) -> None:
        """Open all connections, blocking. Raises `StoreError`."""
        self._take(self._open())

    def confirm(self) -> None:
        """Reset the pause between attempts to connect, as the store has run a command."""
        self._backoff.reset()
        faults.over(_UNFIT, "store can be used again url=%s", self._store.url.redacted)
        faults.over(_LOST, "store back url=%s", self._store.url.redacted)

    def wait_for_task(self, queue: str, on_task: Callable[[Any], None]) -> None:
        """Call ``on_task`` with the reply once ``queue`` has a pending task, or after a while.

        Moves the last element of the list onto itself: that blocks until there is one, changes
        nothing, and notices any program that pushes (protocol H.1, 1).
        """
        connection = self._waits.get(queue)
        if connection is not None:
            pending = queue_keys(queue).pending
            connection.call(
                ("BLMOVE", pending, pending, "RIGHT", "RIGHT", WAIT_SECONDS),
                on_task,
            )

    def add_queue(self, queue: str, then: Callable[[str], None]) -> None:
        """Open the connections of one more queue; call ``then(queue)`` when it is done.

        Does nothing while the store is away: reconnecting covers all `ServedQueues`, which the
        caller has changed already.
        """
        if self._listener is None:
            return
        self._listener.follow(queue_keys(queue).wake)
        listener = self._listener

        def opened(connection: Any) -> None:
            if isinstance(connection, Exception):
                # Without a connection that waits, the queue would be asked for tasks only once.
                if self._listener is listener:
                    self._lost(ConnectionLost(str(connection)))
            elif (
                self._listener is not listener or queue not in self._queues or queue in self._waits
            ):
                connection.close()  # it came too late
            else:
                self._waits[queue] = connection
                self._all.append(connection)
                self._watch(connection)
                then(queue)

        self._reactor.in_thread(lambda: NonblockingConnection(self._store), opened)

    def remove_queue(self, queue: str) -> None:
        """Close the connections of ``queue``."""
        if self._listener is not None:
            self._listener.unfollow(queue_keys(queue).wake)
        connection = self._waits.pop(queue, None)
        if connection is not None:
            self._all.remove(connection)
            self._reactor.forget(connection)
            connection.close()

    def listen(self, channel: str, on_data: Callable[[Any], None]) -> None:
        """Subscribe to a channel until the store is lost; only ``on_data`` gets its messages."""
        if self._listener is not None:
            self._own_channels[channel.encode()] = on_data
            self._listener.follow(channel)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call ``action`` after so many seconds, even if the store is away by then."""
        self._reactor.after(seconds, action)

    def flush(self) -> None:
        """Send what is queued on all connections. Call it at the end of each round."""
        for connection in self._all:
            if connection.wants_write:
                try:
                    connection.flush()
                except ConnectionLost as error:
                    self._lost(error)
                    return
                if connection.wants_write:
                    self._watch(connection, writing=True)

    def close(self) -> None:
        """Close all connections, and open none again."""
        self._closed = True
        self._drop()

    # --- Opening, watching, losing ---

    def _open(self) -> dict[str, NonblockingConnection]:
        opened: dict[str, NonblockingConnection] = {}
        queues = list(self._queues)  # they may change meanwhile
        self._store.check_ready()
        try:
            opened["tasks"] = OpenConnection(self._store)
            opened["upkeep"] = OpenConnection(self._store)
            opened["upkeep"].handle = handle_guarded
            channels = [CANCEL_CHANNEL, *(queue_keys(queue).wake for queue in queues)]
            opened["listener"] = PubSubConnection(
                self._store, channels, self._on_published, self._on_listener_id, self._on_denied
            )
            for queue in queues:
                opened["wait " + queue] = NonblockingConnection(self._store)
        except BaseException:
            for connection in opened.values():
                connection.close()
            raise
        return opened

    def _take(self, opened: dict[str, NonblockingConnection]) -> None:
        tasks, upkeep, listener = opened["tasks"], opened["upkeep"], opened["listener"]
        assert isinstance(tasks, OpenConnection)
        assert isinstance(upkeep, OpenConnection)
        assert isinstance(listener, PubSubConnection)
        self._tasks, self._upkeep, self._listener = tasks, upkeep, listener
        self._waits = {
            name.removeprefix("wait "): connection
            for name, connection in opened.items()
            if name.startswith("wait ")
        }
        self._all = list(opened.values())
        for connection in opened.values():
            self._watch(connection, writing=connection.wants_write)
        for action in self.on_up:
            action()

    def _watch(self, connection: NonblockingConnection, *, writing: bool = False) -> None:
        def write() -> None:
            try:
                connection.flush()
            except ConnectionLost as error:
                self._lost(error)
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
            self._lost(error)

    def _beat(self) -> None:
        """Find connections that went silent; ask idle ones for a sign of life."""
        self._reactor.after(self._answer_timeout / _BEATS, self._beat)
        waits = set(self._waits.values())
        try:
            for connection in self._all:
                connection.beat(self._answer_timeout + (WAIT_SECONDS if connection in waits else 0))
        except ConnectionLost as error:
            self._lost(error)

    def _drop(self) -> None:
        for connection in self._all:
            self._reactor.forget(connection)
            connection.close()
        self._tasks = self._upkeep = _DOWN
        self._listener = None
        self._waits, self._all = {}, []
        if self._poll_timer is not None:
            self._poll_timer.cancel()
            self._poll_timer = None
        self._own_channels.clear()

    def _lost(self, error: ConnectionLost) -> None:
        if not self.is_up:
            return
        faults.occurred(_LOST, "store lost url=%s error=%s", self._store.url.redacted, error)
        self._drop()
        for action in self.on_down:
            action()
        self._reconnect_later()

    def _reconnect_later(self) -> None:
        self._reactor.after(self._backoff.pause(), self._reconnect)

    def _reconnect(self) -> None:
        if not self._closed:
            self._reactor.in_thread(self._open, self._reconnected)

    def _reconnected(self, result: Any) -> None:
        if isinstance(result, Exception):
            url = self._store.url.redacted
            if isinstance(result, StoreUnsuitable):
                # Waiting may not mend this, so it is logged as a fault of its own.
                faults.occurred(_UNFIT, "store cannot be used url=%s error=%s", url, result)
            faults.occurred(_LOST, "store still away url=%s error=%s", url, result)
            self._reconnect_later()
        elif self._closed:
            for connection in result.values():
                connection.close()
        else:
            if result.keys() != {"tasks", "upkeep", "listener"} | {
                "wait " + queue for queue in self._queues
            }:
                # The queues have changed meanwhile.
                for connection in result.values():
                    connection.close()
                self._reconnect()
                return
            self._take(result)

    # --- Messages ---

    def _on_published(self, message: Any) -> None:
        handle_guarded(self._pass_on, message)

    def _pass_on(self, message: Any) -> None:
        _, channel, data = message
        own = self._own_channels.get(channel)
        if own is not None:
            own(data)
            return
        name = channel.decode()
        for action in self.on_message:
            action(name, data)

    def _on_listener_id(self, number: int) -> None:
        """Have the server report changed keys to the listener. It may deny that to this user."""

        def begin(reply: Any) -> None:
            if reply == b"OK":
                for action in self.on_tracking:
                    action()

        if self._listener is not None:
            self.listen(_CHANGES, self._on_invalidated)
            self._upkeep.call(("CLIENT", "TRACKING", "ON", "REDIRECT", number, "OPTIN"), begin)

    def _on_invalidated(self, keys: Any) -> None:
        for action in self.on_changed:
            action(keys)

    def _on_denied(self, channel: str, error: Any) -> None:
        """Poll for what is published on a channel that the user may not subscribe to."""
        if not self._denied:
            # Some channels are asked for a round trip later, and one warning is for all.
            self._reactor.after(_POLL_SECONDS / 2, self._warn_of_denied)
        self._denied[channel] = str(error)
        if self._poll_timer is None:
            self._poll()

    def _warn_of_denied(self) -> None:
        """Warn of the denied channels, once for each."""
        lacks = [refused_channel(*each) for each in self._denied.items()]
        error = next(iter(self._denied.values()))
        self._denied.clear()
        channels = list(dict.fromkeys(name for each in lacks for name in each.channels))
        commands = list(dict.fromkeys(name for each in lacks for name in each.for_channels))
        if not self._warned_of.issuperset((*channels, *commands)):
            self._warned_of.update(channels, commands)
            missing = MissingRights(channels=channels, for_channels=commands)
            log.warning("%s error=%s", slower(self._store.url, missing), error)

    def _poll(self) -> None:
        self._poll_timer = self._reactor.after(_POLL_SECONDS, self._poll)
        for action in self.on_poll:
            action()
