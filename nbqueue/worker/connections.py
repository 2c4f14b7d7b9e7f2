"""A worker's connections to the store: kept, lost, and opened again.

Tasks go over one, leases and maintenance over another, so that no heartbeat waits behind a batch of
results. A third listens for messages, and each queue has one that waits for its next task.
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
from nbqueue.transport.nonblocking import ConnectionLost, NonblockingConnection, PubSubConnection
from nbqueue.wire.keys import CANCEL_CHANNEL, queue_keys
from nbqueue.worker.store_refusals import faults
from nbqueue.worker.unreadable_data import handle_guarded

log = logging.getLogger("nbqueue.worker")

WAIT_SECONDS = 30
_CHANGES = "__redis__:invalidate"
_ASK_SECONDS = 1.0
_LOST, _UNFIT = "store", "unfit store"
_BEATS = 3
"""How often within the time for an answer the connections are looked at."""


class WorkerConnections:
    """All connections live and die together: one lost means that the store was away.

    ``on_up`` is called with everything connected, at first and after each loss; ``on_down`` at
    each loss. In between `tasks` and `upkeep` are None.

    The time until a lost store is tried again grows until `confirm` is called: a server that takes
    connections and then refuses each command is not asked more often than one that is away.
    ``answer_timeout`` is how many seconds the store may leave a command unanswered, and still
    counts as there.

    Where the store can tell of changes, ``on_tracking`` is called after ``on_up``: from then on
    tracked commands of `upkeep` have ``on_changed`` called, once, with keys that they read.
    """

    def __init__(
        self, reactor: Reactor, store: Store, queues: list[str], answer_timeout: float = 30.0
    ) -> None:
        self._reactor = reactor
        self._store = store
        self._queues = queues
        self.tasks: NonblockingConnection | None = None
        self.upkeep: NonblockingConnection | None = None
        self._waits: dict[str, NonblockingConnection] = {}
        self._all: list[NonblockingConnection] = []
        self._listener: PubSubConnection | None = None
        self._own_channels: dict[bytes, Callable[[Any], None]] = {}
        self._backoff = Backoff()
        self._answer_timeout = answer_timeout
        self._closed = False
        self._ask_timer: Timer | None = None
        self._refused: dict[str, str] = {}
        """The channels that our user may not listen to, and what the server said of each."""
        self._said: set[str] = set()
        self.on_asking: list[Callable[[], None]] = []
        """Called each second while our user may not listen to channels."""
        self.on_up: list[Callable[[], None]] = []
        self.on_down: list[Callable[[], None]] = []
        self.on_message: Callable[[str, bytes], None] = lambda channel, data: None
        self.on_tracking: Callable[[], None] = lambda: None
        self.on_changed: Callable[[Any], None] = lambda keys: None
        reactor.every_round(self.flush)
        reactor.after(answer_timeout / _BEATS, self._beat)

    def connect(self) -> None:
        """Open all connections, here and now. Raises `StoreError`."""
        self._take(self._open())

    def confirm(self) -> None:
        """The store did what it was asked: it is there, and serves us."""
        self._backoff.reset()
        faults.over(_UNFIT, "store can be used again url=%s", self._store.url.redacted)
        faults.over(_LOST, "store back url=%s", self._store.url.redacted)

    def wait_for_task(self, queue: str, on_task: Callable[[Any], None]) -> None:
        """Call ``on_task`` with the reply when there is a pending task, whoever put it there, or
        after a while.

        Moving the last element of the list to where it is blocks until there is one, changes
        nothing, and is woken by whatever program pushes (protocol H.1, 1).
        """
        link = self._waits.get(queue)
        if link is not None:
            pending = queue_keys(queue).pending
            link.call(
                ("BLMOVE", pending, pending, "RIGHT", "RIGHT", WAIT_SECONDS),
                on_task,
            )

    def add_queue(self, queue: str, then: Callable[[str], None]) -> None:
        """Connect for one more of the queues; call ``then(queue)`` when that is done.

        While the store is away nothing is to be done: `queues`, which the caller has changed, are
        what is connected for when it is back.
        """
        if self._listener is None:
            return
        self._listener.follow(queue_keys(queue).wake)
        listener = self._listener

        def opened(link: Any) -> None:
            if isinstance(link, Exception):
                # Without a connection that waits, it would be asked for tasks only once.
                if self._listener is listener:
                    self._lost(ConnectionLost(str(link)))
            elif (
                self._listener is not listener or queue not in self._queues or queue in self._waits
            ):
                link.close()  # it came too late
            else:
                self._waits[queue] = link
                self._all.append(link)
                self._watch(link)
                then(queue)

        self._reactor.in_thread(lambda: NonblockingConnection(self._store), opened)

    def remove_queue(self, queue: str) -> None:
        """Let go of what was connected for ``queue``."""
        if self._listener is not None:
            self._listener.unfollow(queue_keys(queue).wake)
        link = self._waits.pop(queue, None)
        if link is not None:
            self._all.remove(link)
            self._reactor.forget(link)
            link.close()

    def listen(self, channel: str, on_data: Callable[[Any], None]) -> None:
        """Listen to one more channel, on this connection only; ``on_data`` gets what comes there,
        and nobody else does."""
        if self._listener is not None:
            self._own_channels[channel.encode()] = on_data
            self._listener.follow(channel)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Run ``action`` then, if it is of use: the connections may have been lost meanwhile."""
        self._reactor.after(seconds, action)

    def _beat(self) -> None:
        """See that no connection is silent, and ask those for a sign of life that may be."""
        self._reactor.after(self._answer_timeout / _BEATS, self._beat)
        waits = set(self._waits.values())
        try:
            for link in self._all:
                link.beat(self._answer_timeout + (WAIT_SECONDS if link in waits else 0))
        except ConnectionLost as error:
            self._lost(error)

    def flush(self) -> None:
        """Send what is queued on all connections."""
        for link in self._all:
            if link.wants_write:
                try:
                    link.flush()
                except ConnectionLost as error:
                    self._lost(error)
                    return
                if link.wants_write:
                    self._watch(link, writing=True)

    def close(self) -> None:
        self._closed = True
        self._drop()

    def _open(self) -> dict[str, NonblockingConnection]:
        opened: dict[str, NonblockingConnection] = {}
        queues = list(self._queues)  # they may change meanwhile
        self._store.check_ready()
        try:
            opened["tasks"] = NonblockingConnection(self._store)
            opened["upkeep"] = NonblockingConnection(self._store)
            opened["upkeep"].handle = handle_guarded
            channels = [CANCEL_CHANNEL, *(queue_keys(queue).wake for queue in queues)]
            opened["listener"] = PubSubConnection(
                self._store, channels, self._on_message, self._on_listener_id, self._on_refused
            )
            for queue in queues:
                opened["wait " + queue] = NonblockingConnection(self._store)
        except BaseException:
            for link in opened.values():
                link.close()
            raise
        return opened

    def _take(self, opened: dict[str, NonblockingConnection]) -> None:
        self.tasks, self.upkeep = opened["tasks"], opened["upkeep"]
        listener = opened["listener"]
        assert isinstance(listener, PubSubConnection)
        self._listener = listener
        self._waits = {
            name.removeprefix("wait "): link
            for name, link in opened.items()
            if name.startswith("wait ")
        }
        self._all = list(opened.values())
        for link in opened.values():
            self._watch(link, writing=link.wants_write)
        for action in self.on_up:
            action()

    def _watch(self, link: NonblockingConnection, *, writing: bool = False) -> None:
        def write() -> None:
            try:
                link.flush()
            except ConnectionLost as error:
                self._lost(error)
                return
            if not link.wants_write:
                self._watch(link)

        self._reactor.watch(link, partial(self._read, link), on_writable=write if writing else None)

    def _on_refused(self, channel: str, error: Any) -> None:
        """Our user may not listen to a channel: what is said there is found by asking, later."""
        if not self._refused:
            # Some channels are asked for a round trip later.
            self._reactor.after(_ASK_SECONDS / 2, self._say_refused)
        self._refused[channel] = str(error)
        if self._ask_timer is None:
            self._ask()

    def _say_refused(self) -> None:
        """Warn of channels that were refused, unless that was said."""
        lacks = [refused_channel(*each) for each in self._refused.items()]
        error = next(iter(self._refused.values()))
        self._refused.clear()
        channels = list(dict.fromkeys(name for each in lacks for name in each.channels))
        commands = list(dict.fromkeys(name for each in lacks for name in each.for_channels))
        if not self._said.issuperset((*channels, *commands)):
            self._said.update(channels, commands)
            missing = MissingRights(channels=channels, for_channels=commands)
            log.warning("%s error=%s", slower(self._store.url, missing), error)

    def _ask(self) -> None:
        self._ask_timer = self._reactor.after(_ASK_SECONDS, self._ask)
        for action in self.on_asking:
            action()

    def _read(self, link: NonblockingConnection) -> None:
        try:
            link.read()
        except ConnectionLost as error:
            self._lost(error)

    def _on_message(self, message: Any) -> None:
        handle_guarded(self._pass_on, message)

    def _pass_on(self, message: Any) -> None:
        _, channel, data = message
        own = self._own_channels.get(channel)
        if own is not None:
            own(data)
        else:
            self.on_message(channel.decode(), data)

    def _on_listener_id(self, number: int) -> None:
        """Have the server say there what changes. It may refuse either, to this user."""

        def begin(reply: Any) -> None:
            if reply == b"OK":
                self.on_tracking()

        if self.upkeep is not None and self._listener is not None:
            self.listen(_CHANGES, self.on_changed)
            self.upkeep.call(("CLIENT", "TRACKING", "ON", "REDIRECT", number, "OPTIN"), begin)

    def _drop(self) -> None:
        for link in self._all:
            self._reactor.forget(link)
            link.close()
        self.tasks = self.upkeep = self._listener = None
        self._waits, self._all = {}, []
        if self._ask_timer is not None:
            self._ask_timer.cancel()
            self._ask_timer = None
        self._own_channels.clear()

    def _lost(self, error: ConnectionLost) -> None:
        if self.tasks is None:
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
                # Waiting may not mend it, so this is not what was logged when it was lost.
                faults.occurred(_UNFIT, "store cannot be used url=%s error=%s", url, result)
            faults.occurred(_LOST, "store still away url=%s error=%s", url, result)
            self._reconnect_later()
        elif self._closed:
            for link in result.values():
                link.close()
        else:
            if result.keys() != {"tasks", "upkeep", "listener"} | {
                "wait " + queue for queue in self._queues
            }:
                # Other queues are served by now.
                for link in result.values():
                    link.close()
                self._reconnect()
                return
            self._take(result)
