"""`EventFeed`: the events of queues, for views that are live, over one connection.

Its thread runs only while a queue is followed. A follower is called with each transition of tasks;
and with `LOOK` where events may have been missed, so that it reads the tasks itself: at first,
after a lost connection, and when the stream's cap dropped entries before they were read.
"""

from __future__ import annotations

import logging
import selectors
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from nbqueue.errors import StoreError
from nbqueue.runtime.backoff import Backoff
from nbqueue.runtime.wakeup import Wakeup
from nbqueue.transport import resp
from nbqueue.transport.nonblocking import ConnectionLost, NonblockingConnection
from nbqueue.wire.keys import stored_keys, stored_name
from nbqueue.wire.task_events import read_event

if TYPE_CHECKING:
    from nbqueue.store.connection import Store

log = logging.getLogger("nbqueue.client")

_COUNT = 500
_BLOCK_SECONDS = 10.0
_ANSWER_SECONDS = 30.0


class Happened(NamedTuple):
    """A transition of tasks.

    ``event`` is one of the events of docs/schemas.md. It is empty if some may have been missed.
    """

    event: str
    at_ms: int
    ids: list[str]


LOOK = Happened("", 0, [])

OnEvent = Callable[[Happened], None]


class EventFeed:
    """Calls followers with the events of queues. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._followers: dict[str, list[OnEvent]] = {}
        self._fresh: list[OnEvent] = []
        self._last: dict[str, str] = {}
        self._thread: threading.Thread | None = None
        self._bell: Wakeup | None = None
        self._backoff = Backoff(first=0.5)
        self.trouble = ""
        """Why no events arrive now; empty if all is well, or no queue is followed."""

    def follow(self, queue: str, on_event: OnEvent) -> Callable[[], None]:
        """Call ``on_event`` with the events of ``queue``, in the thread of the feed.

        Returns a function that stops it.
        """
        with self._lock:
            self._followers.setdefault(queue, []).append(on_event)
            self._fresh.append(on_event)
            if self._thread is None:
                self._bell = Wakeup()
                self._thread = threading.Thread(
                    target=self._run, args=(self._bell,), name="nbqueue-events", daemon=True
                )
                self._thread.start()
            self._wake()

        def stop() -> None:
            with self._lock:
                followers = self._followers.get(queue, [])
                if on_event in followers:
                    followers.remove(on_event)
                if not followers:
                    self._followers.pop(queue, None)
                    self._last.pop(queue, None)
                self._wake()

        return stop

    def close(self) -> None:
        """Stop following all queues."""
        with self._lock:
            self._followers.clear()
            self._wake()

    def _wake(self) -> None:
        if self._bell is not None:
            self._bell.wake()

    def _run(self, bell: Wakeup) -> None:
        while True:
            with self._lock:
                if not self._followers:
                    self._end()
                    return
            try:
                self._connected(bell)
            except (ConnectionLost, StoreError, OSError) as error:
                log.debug("no events arrive for a while error=%s", error)
                self.trouble = f"the store is away ({error}); it is tried again and again"
                threading.Event().wait(self._backoff.pause())
            except Exception:
                log.exception("events of queues could not be followed, and are followed anew")
                self.trouble = "events could not be followed; it is tried again and again"
                threading.Event().wait(self._backoff.pause())
            with self._lock:
                # Events of the meantime may have left the stream.
                self._fresh = [each for group in self._followers.values() for each in group]

    def _end(self) -> None:
        self._thread = None
        self.trouble = ""
        if self._bell is not None:
            self._bell.close()
        self._bell = None
        self._last.clear()

    def _connected(self, bell: Wakeup) -> None:
        """Follow over one connection, until it is lost or no queue is followed any more."""
        link = NonblockingConnection(self._store)
        try:
            while True:
                with self._lock:
                    queues = list(self._followers)
                if not queues:
                    return
                self._begin(link, queues)
                if not self._wait(link, bell, queues):
                    # Other queues are followed now, and a blocked read cannot be cancelled.
                    link.close()
                    link = NonblockingConnection(self._store)
        finally:
            link.close()

    def _begin(self, link: NonblockingConnection, queues: list[str]) -> None:
        """Find the ends of new queues' streams, and then call new followers with `LOOK`."""
        _ask(link, ("XLEN", stored_keys(queues[0]).events))  # does it answer?
        self._backoff.reset()
        self.trouble = ""
        for queue in queues:
            if queue not in self._last:
                [newest] = _ask(
                    link, ("XREVRANGE", stored_keys(queue).events, "+", "-", "COUNT", 1)
                )
                self._last[queue] = newest[0][0].decode() if newest else "0-0"
        with self._lock:
            fresh, self._fresh = self._fresh, []
        for on_event in fresh:
            self._tell([on_event], LOOK)

    def _wait(self, link: NonblockingConnection, bell: Wakeup, queues: list[str]) -> bool:
        """Read events until another queue is followed, or one no longer.

        Returns whether the connection can still be used. Raises `ConnectionLost` if the store does
        not answer a read in time.
        """
        while True:
            streams = [stored_keys(queue).events for queue in queues]
            since = [self._last[queue] for queue in queues]
            found: list[Any] = []
            block_ms = int(_BLOCK_SECONDS * 1000)
            link.call(
                ("XREAD", "COUNT", _COUNT, "BLOCK", block_ms, "STREAMS", *streams, *since),
                found.append,
            )
            link.flush()
            limit = time.monotonic() + _BLOCK_SECONDS + _ANSWER_SECONDS
            while not found:
                left = limit - time.monotonic()
                if left <= 0:
                    raise ConnectionLost("the store does not answer")
                if _first_ready(link, bell, left) is bell:
                    bell.drain()
                    return False
                link.read()
            if isinstance(found[0], resp.ReplyError):
                raise link.server.error_for(found[0])
            self._read(dict(zip(streams, queues, strict=True)), found[0] or [])

    def _read(self, queues: dict[str, str], reply: list[Any]) -> None:
        for stream, entries in reply:
            queue = queues[stored_name(stream)]
            with self._lock:
                followers = list(self._followers.get(queue, ()))
            if len(entries) == _COUNT:
                # Far behind: the next entries may be dropped before they are read.
                self._tell(followers, LOOK)
            for entry_id, pairs in entries:
                self._last[queue] = entry_id.decode()
                event = read_event(pairs)
                if event is not None:
                    self._tell(followers, Happened(*event))

    @staticmethod
    def _tell(followers: list[OnEvent], happened: Happened) -> None:
        for on_event in followers:
            try:
                on_event(happened)
            except Exception:
                log.exception("a follower of events failed")


def _ask(link: NonblockingConnection, words: tuple[Any, ...]) -> list[Any]:
    found: list[Any] = []
    link.call(words, found.append)
    link.flush()
    limit = time.monotonic() + _ANSWER_SECONDS
    while not found:
        if time.monotonic() > limit:
            raise ConnectionLost("the store does not answer")
        _first_ready(link, None, 1.0)
        link.read()
    if isinstance(found[0], resp.ReplyError):
        raise link.server.error_for(found[0])
    return found


def _first_ready(
    link: NonblockingConnection, bell: Wakeup | None, timeout: float | None = None
) -> Any:
    with selectors.DefaultSelector() as selector:
        selector.register(link, selectors.EVENT_READ)
        if bell is not None:
            selector.register(bell, selectors.EVENT_READ)
        ready = selector.select(timeout)
    found = {key.fileobj for key, _ in ready}
    return bell if bell in found else link
