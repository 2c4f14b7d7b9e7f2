"""Follow the events of queues, for what is shown live: one connection for all views.

A thread runs while any queue is followed. Followers get every event, and `LOOK` where some may have
been missed: at the beginning, after a lost connection, and when the stream's cap dropped entries
before they were read.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from nbqueue.errors import StoreError
from nbqueue.runtime.backoff import Backoff
from nbqueue.runtime.reactor import Reactor, poll_selector
from nbqueue.transport.nonblocking import ConnectionLost, NonblockingConnection
from nbqueue.transport.resp import Arg, ReplyError
from nbqueue.wire.keys import stored_keys, stored_name
from nbqueue.wire.task_events import read_event

if TYPE_CHECKING:
    from nbqueue.store.connection import Store
    from nbqueue.transport.server import Server

log = logging.getLogger("nbqueue.client")

_COUNT = 500
_BLOCK_SECONDS = 10.0
_ANSWER_SECONDS = 30.0


class Happened(NamedTuple):
    """A transition of tasks.

    ``event`` is one of the words of docs/schemas.md. If it is empty, events may have been missed:
    read the tasks themselves.
    """

    event: str
    at_ms: int
    ids: list[str]


LOOK = Happened("", 0, [])

OnEvent = Callable[[Happened], None]


class Feed(Protocol):
    """Follows the events of queues."""

    @property
    def trouble(self) -> str:
        """The reason why events cannot be read now; empty if they can."""

    def follow(self, queue: str, on_event: OnEvent) -> Callable[[], None]:
        """Call ``on_event`` for each event of ``queue``; returns a function that ends it."""

    def close(self) -> None:
        """End all following."""


def new_feed(store: Store) -> Feed:
    """Return a feed of the events in a store."""
    return EventFeed(store) if store.nodes is None else ClusterFeed(store)


class ClusterFeed:
    """Follows each queue over a connection of its own, as each may be on another node."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._feeds: dict[str, EventFeed] = {}

    @property
    def trouble(self) -> str:
        return next((each.trouble for each in list(self._feeds.values()) if each.trouble), "")

    def follow(self, queue: str, on_event: OnEvent) -> Callable[[], None]:
        with self._lock:
            feed = self._feeds.setdefault(queue, EventFeed(self._store))
        return feed.follow(queue, on_event)

    def close(self) -> None:
        for feed in list(self._feeds.values()):
            feed.close()


class EventFeed:
    """Follows the events of queues on one server, in a thread of its own.

    `follow`, the function that it returns, and `close` may be called from any thread.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._followers: dict[str, list[OnEvent]] = {}
        self._fresh: list[OnEvent] = []
        """Followers to be sent `LOOK` when events are read next."""
        self._last: dict[str, str] = {}
        """The id of the last entry that was read of each queue."""
        self._reactor: Reactor | None = None
        """The loop of the thread; None while none runs."""
        self._is_changed = False
        """True if the followed queues differ from those that the thread reads."""
        self._backoff = Backoff(0.5, store.longest_pause)
        self.trouble = ""
        """The reason why events cannot be read now.

        Empty if they can, or if nothing is followed.
        """

    def follow(self, queue: str, on_event: OnEvent) -> Callable[[], None]:
        """Call ``on_event`` for each event of ``queue``, in the feed's thread.

        Returns a function that ends it.
        """
        with self._lock:
            self._followers.setdefault(queue, []).append(on_event)
            self._fresh.append(on_event)
            if self._reactor is None:
                self._reactor = Reactor(poll_selector())
                threading.Thread(
                    target=self._run, args=(self._reactor,), name="nbqueue-events", daemon=True
                ).start()
            self._note_change()

        def stop() -> None:
            with self._lock:
                followers = self._followers.get(queue, [])
                if on_event in followers:
                    followers.remove(on_event)
                if not followers:
                    self._followers.pop(queue, None)
                    self._last.pop(queue, None)
                self._note_change()

        return stop

    def close(self) -> None:
        """End all following."""
        with self._lock:
            self._followers.clear()
            self._note_change()

    def _note_change(self) -> None:
        self._is_changed = True
        if self._reactor is not None:
            self._reactor.wake()

    def _run(self, reactor: Reactor) -> None:
        while True:
            with self._lock:
                if not self._followers:
                    self._end(reactor)
                    return
            try:
                self._read_events(reactor)
            except (ConnectionLost, StoreError, OSError) as error:
                log.debug("events are not read for a while error=%s", error)
                self.trouble = f"the store is away ({error}); it is tried again and again"
                self._store.note_lost()
                threading.Event().wait(self._backoff.pause())
            except Exception:
                log.exception("events of queues could not be followed, and are followed anew")
                self.trouble = "events could not be followed; it is tried again and again"
                threading.Event().wait(self._backoff.pause())
            with self._lock:
                # Events of the meantime may have left the stream.
                self._fresh = [each for group in self._followers.values() for each in group]

    def _end(self, reactor: Reactor) -> None:
        self._reactor = None
        self.trouble = ""
        self._last.clear()
        reactor.close()

    def _read_events(self, reactor: Reactor) -> None:
        """Read events until nothing is followed any more. Raises if the connection is lost."""
        while True:
            with self._lock:
                queues = list(self._followers)
                self._is_changed = False
            if not queues:
                return
            # A new connection for other queues: a read that blocks cannot be withdrawn.
            with _Reader(self._store.server_for(queues[0]), reactor) as reader:
                self._begin(reader, queues)
                self._read_queues(reader, queues)

    def _begin(self, reader: _Reader, queues: list[str]) -> None:
        """Find the ends of new queues' streams, and then have new followers look for themselves."""
        reader.ask(("XLEN", stored_keys(queues[0]).events))  # raises if the store refuses
        self._backoff.reset()
        self.trouble = ""
        for queue in queues:
            if queue not in self._last:
                newest = reader.ask(("XREVRANGE", stored_keys(queue).events, "+", "-", "COUNT", 1))
                self._last[queue] = newest[0][0].decode() if newest else "0-0"
        with self._lock:
            fresh, self._fresh = self._fresh, []
        for on_event in fresh:
            self._send([on_event], LOOK)

    def _read_queues(self, reader: _Reader, queues: list[str]) -> None:
        """Read events of these queues until others are followed."""
        streams = [stored_keys(queue).events for queue in queues]
        by_stream = dict(zip(streams, queues, strict=True))
        block_ms = int(_BLOCK_SECONDS * 1000)
        while True:
            since = [self._last.get(queue, "$") for queue in queues]
            reply = reader.ask(
                ("XREAD", "COUNT", _COUNT, "BLOCK", block_ms, "STREAMS", *streams, *since),
                _BLOCK_SECONDS + _ANSWER_SECONDS,
                lambda: self._is_changed,
            )
            if self._is_changed:
                return
            self._pass_on(by_stream, reply or [])

    def _pass_on(self, queues: dict[str, str], reply: list[Any]) -> None:
        for stream, entries in reply:
            queue = queues[stored_name(stream)]
            with self._lock:
                followers = list(self._followers.get(queue, ()))
            if len(entries) == _COUNT:
                # Far behind: the next entries may be dropped before they are read.
                self._send(followers, LOOK)
            for entry_id, pairs in entries:
                self._last[queue] = entry_id.decode()
                event = read_event(pairs)
                if event is not None:
                    self._send(followers, Happened(*event))

    @staticmethod
    def _send(followers: list[OnEvent], happened: Happened) -> None:
        for on_event in followers:
            try:
                on_event(happened)
            except Exception:
                log.exception("a follower of events failed")


class _Reader:
    """A connection of the feed's thread, with one request at a time."""

    def __init__(self, server: Server, reactor: Reactor) -> None:
        self._reactor = reactor
        self._connection = NonblockingConnection(server)
        reactor.watch(self._connection, self._connection.read)

    def ask(
        self,
        words: Sequence[Arg],
        seconds: float = _ANSWER_SECONDS,
        is_over: Callable[[], bool] = lambda: False,
    ) -> Any:
        """Return the reply to a command; None if ``is_over`` before it comes.

        Raises `ConnectionLost` after ``seconds``, `StoreError` for a refusal.
        """
        found: list[Any] = []
        self._connection.call(words, found.append)
        self._connection.flush()
        if not self._reactor.run_until(lambda: bool(found) or is_over(), seconds):
            raise ConnectionLost("the store does not answer")
        if found and isinstance(found[0], ReplyError):
            raise self._connection.server.error_for(found[0])
        return found[0] if found else None

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._reactor.forget(self._connection)
        self._connection.close()
