"""The connections of a worker to its store, reopened after a loss."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from nbqueue.errors import StoreDenied, StoreUnsuitable
from nbqueue.runtime.backoff import Backoff
from nbqueue.runtime.reactor import Reactor, Timer
from nbqueue.store.connection import Store
from nbqueue.store.rights import MissingRights, refused_channel, slower
from nbqueue.transport.nonblocking import ConnectionLost
from nbqueue.worker.served_queues import ServedQueues
from nbqueue.worker.server_connections import (
    DownConnection,
    QueueConnection,
    ServerConnections,
    ServerEvents,
)
from nbqueue.worker.store_refusals import faults

log = logging.getLogger("nbqueue.worker")

_POLL_SECONDS = 1.0
_LOST, _UNFIT = "store", "unfit store"
_BEATS = 3
"""The number of checks of the connections within the answer time-out."""

DOWN = DownConnection()
"""The replacement of all connections while the store is away."""


class WorkerConnections:
    """Connections to the store, asked for by queue.

    `tasks`, `blocking` and `upkeep` always return a connection; one that is down drops all
    commands. One server has all queues, so they are up or down together.

    Parts append callbacks to these lists when they are made:

    ``on_up``: everything is connected, for the first time or again.
    ``on_down``: everything was lost.
    ``on_message``: ``(channel, data)`` was published on a subscribed channel.
    ``on_poll``: called every second while the store denies the user some of the channels.
    ``on_tracking``: the server reports changed keys from now on; called after ``on_up``.
    ``on_changed``: these keys changed, which a tracked command of `upkeep` had read.

    The pause before the next attempt to connect grows until `confirm` is called, so a server that
    accepts connections and refuses every command is not tried more often than an unreachable one.
    ``answer_timeout`` (seconds): without an answer for this time the store counts as lost.
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
        self._queues = queues
        self._server: ServerConnections | None = None
        self._tasks: QueueConnection = DOWN
        self._upkeep: QueueConnection = DOWN
        self._backoff = Backoff(longest=store.longest_pause)
        self._answer_timeout = answer_timeout
        self._closed = False
        self._poll_timer: Timer | None = None
        self._denied: dict[str, str] = {}
        """Channels denied to the user, each with the server's error."""
        self._warned_of: set[str] = set()
        self.on_up: list[Callable[[], None]] = []
        self.on_down: list[Callable[[], None]] = []
        self.on_message: list[Callable[[str, bytes], None]] = []
        self.on_poll: list[Callable[[], None]] = []
        self.on_tracking: list[Callable[[], None]] = []
        self.on_changed: list[Callable[[Any], None]] = []
        self._events = ServerEvents(
            on_lost=self._lost,
            on_message=lambda channel, data: call_all(self.on_message, channel, data),
            on_tracking=lambda: call_all(self.on_tracking),
            on_changed=lambda keys: call_all(self.on_changed, keys),
            on_denied=self._on_denied,
        )
        reactor.after(answer_timeout / _BEATS, self._beat)

    def tasks(self, queue: str) -> QueueConnection:
        """Return the connection for the tasks of ``queue``: fetching, results, output."""
        return self._tasks

    def blocking(self, queue: str) -> QueueConnection:
        """Return the connection for commands of ``queue`` that block."""
        return DOWN if self._server is None else self._server.blocking.get(queue, DOWN)

    def upkeep(self, queue: str) -> QueueConnection:
        """Return the connection for leases and maintenance of ``queue``."""
        return self._upkeep

    def registry(self, key: str | None = None) -> QueueConnection:
        """Return the connection for keys of no queue, or of other queues than one.

        These are the lists of workers and queues, and the time. Each command goes where its first
        key is; with ``key`` all go where that is, such as those of a transaction.
        """
        return self._upkeep

    @property
    def is_up(self) -> bool:
        """True if the store is connected, for all queues."""
        return self._server is not None

    @property
    def awaits_reply(self) -> bool:
        """True if a command about tasks is still unanswered."""
        return bool(self._tasks.under_way)

    def connect(self) -> None:
        """Open all connections, blocking. Raises `StoreError`."""
        self._take(self._open())

    def confirm(self) -> None:
        """Reset the pause between connection attempts, after the store has run a command."""
        self._backoff.reset()
        faults.over(_UNFIT, "store can be used again url=%s", self._store.url.redacted)
        faults.over(_LOST, "store back url=%s", self._store.url.redacted)

    def add_queue(self, queue: str, then: Callable[[str], None]) -> None:
        """Open the connections of another queue, then call ``then(queue)``.

        Does nothing while the store is disconnected: reconnecting covers all `ServedQueues`, which
        the caller has changed already.
        """

        def on_added(server: ServerConnections) -> None:
            if queue in self._queues.weights:
                then(queue)
            else:
                server.remove_queue(queue)

        if self._server is not None:
            self._server.add_queue(queue, on_added)

    def remove_queue(self, queue: str) -> None:
        """Close the connections of ``queue``."""
        if self._server is not None:
            self._server.remove_queue(queue)

    def listen(self, channel: str, on_data: Callable[[Any], None]) -> None:
        """Subscribe to a channel until the store is lost.

        Only ``on_data`` gets its messages.
        """
        if self._server is not None:
            self._server.listen(channel, on_data)

    def flush(self) -> None:
        """Send all queued commands, at the end of each round."""
        if self._server is not None:
            self._server.flush()

    def close(self) -> None:
        """Close all connections, and open none again."""
        self._closed = True
        self._drop()

    # --- Opening and losing ---

    def _open(self) -> ServerConnections:
        self._store.check_ready()
        queues = list(self._queues.names)  # they may change meanwhile
        return ServerConnections(self._reactor, self._store, queues, self._events)

    def _take(self, server: ServerConnections) -> None:
        self._server, self._tasks, self._upkeep = server, server.tasks, server.upkeep
        server.start()
        call_all(self.on_up)

    def _drop(self) -> None:
        server, self._server = self._server, None
        self._tasks = self._upkeep = DOWN
        if server is not None:
            server.close()
        if self._poll_timer is not None:
            self._poll_timer.cancel()
            self._poll_timer = None

    def _beat(self) -> None:
        self._reactor.after(self._answer_timeout / _BEATS, self._beat)
        if self._server is not None:
            self._server.beat(self._answer_timeout)

    def _lost(self, error: ConnectionLost) -> None:
        if not self.is_up:
            return
        faults.occurred(_LOST, "store lost url=%s error=%s", self._store.url.redacted, error)
        self._drop()
        call_all(self.on_down)
        self._reconnect_later()

    def _reconnect_later(self) -> None:
        self._reactor.after(self._backoff.pause(), self._reconnect)

    def _reconnect(self) -> None:
        if not self._closed:
            self._reactor.in_thread(self._open, self._reconnected)

    def _reconnected(self, result: Any) -> None:
        if isinstance(result, Exception):
            url = self._store.url.redacted
            if isinstance(result, StoreUnsuitable | StoreDenied):
                # Waiting may not help here, so this is logged as a separate fault.
                faults.occurred(_UNFIT, "store cannot be used url=%s error=%s", url, result)
            faults.occurred(_LOST, "store still away url=%s error=%s", url, result)
            self._reconnect_later()
        elif self._closed:
            result.close()
        elif result.queues != set(self._queues.names):
            # The served queues have changed meanwhile.
            result.close()
            self._reconnect()
        else:
            self._take(result)

    # --- Channels that the user may not subscribe to ---

    def _on_denied(self, channel: str, error: Any) -> None:
        """Poll for the messages of a channel that is denied to the user."""
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
        call_all(self.on_poll)


def call_all(actions: list[Callable[..., None]], *args: Any) -> None:
    """Call each callback."""
    for action in actions:
        action(*args)
