"""`Session`: the connections, the signing key and the ids of one client.

Futures, groups and submitters share it, and it lives as long as one of them does: the client itself
may be gone.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nbqueue.broker.broker import Broker
from nbqueue.calls.keys import task_mark
from nbqueue.calls.keys.signing import Keyring
from nbqueue.client import obstacles
from nbqueue.client.cancelling.many_tasks import Cancellation
from nbqueue.client.completion.listener import CompletionListener
from nbqueue.client.futures.forked_handles import hold_while_forking, inherit
from nbqueue.client.live.event_stream import Feed, new_feed
from nbqueue.client.results.outcome import RawOutcome
from nbqueue.clock import Clock
from nbqueue.errors import (
    StoreDamaged,
    StoreError,
    StoreUnreachable,
    StoreWarning,
    UsageError,
    ValueTooLarge,
)
from nbqueue.runtime.buffers import LARGEST_VALUE
from nbqueue.runtime.forks import in_children
from nbqueue.sizes import Size, format_size, parse_size
from nbqueue.store.connection import Store, connect
from nbqueue.store.default_store import default_url, kept_store
from nbqueue.store.durability import check_durability, ensure_durability
from nbqueue.store.url import parse_url
from nbqueue.transport.topology import ANYWHERE
from nbqueue.wire import decoding, ids
from nbqueue.wire.keys import LISTENER_LENGTH, stored_keys

if TYPE_CHECKING:
    from nbqueue.client.futures.group import TaskGroup
    from nbqueue.client.obstacles.obstacle_watch import ObstacleWatch

CAPTURED_LIMIT = "16MB"
"""Default limit of what a function may capture; see `nbqueue.connect`."""

_SURELY_HELD = 4_000_000

_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


class Session:
    """The connections, key and ids of one client. Thread-safe, and usable after a fork."""

    _events: Feed | None = None
    _obstacles: ObstacleWatch | None = None

    code_limit: int = LARGEST_VALUE
    """The most bytes that a stored function may have, with what it captures."""

    def __init__(self, store: Store, keyring: Keyring) -> None:
        self.store = store
        self._largest_value: int | None = None
        self.keyring = keyring
        self.clock = Clock()
        self.broker = Broker(store, clock=self.clock)
        self.is_open = True
        self.accepts = True
        self.ids = ids.IdMaker(self.clock.now_ms)
        self.listener: CompletionListener = CompletionListener(store, self.ids.prefix, keyring)
        # Not at exit: the thread is a daemon, and stopping it would only delay the end.
        weakref.finalize(self, self.listener.stop, wait=False).atexit = False
        _sessions.add(self)

    def after_fork(self) -> None:
        """Take ids and connections of its own in a forked process."""
        self.store.after_fork()
        self._events = self._obstacles = None
        vars(self).pop("broker", None)
        self.ids = ids.IdMaker(self.clock.now_ms)
        inherit(self.listener, self.ids.prefix)

    @cached_property
    def broker(self) -> Broker:
        return Broker(self.store, clock=self.clock)  # in a forked process, when first used

    @property
    def events(self) -> Feed:
        """The feed of the queues' events, for what is shown live."""
        if self._events is None:
            self._events = new_feed(self.store)
        return self._events

    @property
    def obstacles(self) -> ObstacleWatch:
        """Finds why tasks do not run."""
        if self._obstacles is None:
            self._obstacles = obstacles.ObstacleWatch(self.store)
        return self._obstacles

    def check_open(self) -> None:
        """Raise `RuntimeError` if the client was shut down, as other executors do."""
        if not self.accepts:
            raise shut_down()

    def check_value(self, size: int, what: str) -> None:
        """Raise `ValueTooLarge` if the store cannot hold a value of so many bytes."""
        if size <= _SURELY_HELD:
            return
        if self._largest_value is None:
            self._largest_value = self._ask_largest_value()
        if size > self._largest_value:
            raise ValueTooLarge(
                f"{what}: {format_size(size)} is more than one value of Redis can hold (at most "
                f"{format_size(self._largest_value)}): write it to a file or a bucket, and send "
                "where that is",
                (what,),
            )

    def _ask_largest_value(self) -> int:
        try:
            [answer] = self.broker.call(("CONFIG", "GET", "proto-max-bulk-len"), on=ANYWHERE)
            return int(answer[1])
        except StoreUnreachable:
            raise
        except (StoreError, LookupError, ValueError, TypeError):
            return LARGEST_VALUE  # this user may not ask

    def cancel(
        self, queue: str, task_ids: Sequence[str], *, running: bool = True
    ) -> dict[str, RawOutcome | str]:
        """Cancel tasks: archive those that do not run, and ask the workers of those that do.

        It waits up to 2 seconds for a task that runs in Go, as Go retries cancelled tasks. Returns
        for each task its outcome, if it has ended now, or its state: ``active`` if its worker was
        asked, ``MISSING`` if it is not in the store.
        """
        return Cancellation(self, queue).run(task_ids, running=running)

    @cached_property
    def task_groups(self) -> weakref.WeakValueDictionary[str, TaskGroup[Any]]:
        """The groups of this process by id, as long as it uses them."""
        return weakref.WeakValueDictionary()

    def find_by_name(self, name: str) -> tuple[str, str] | None:
        """Return queue and id of the newest task with this name, or None."""
        queues = self.broker.queues()
        if not queues:
            return None
        replies = self.broker.try_call_each(
            (queue, ("GET", stored_keys(queue).name(name))) for queue in queues
        )
        found = [
            (decoding.text(reply), queue)
            for queue, reply in zip(queues, replies, strict=True)
            if isinstance(reply, bytes)
        ]
        if not found:
            return None
        # In ids that nbqueue made the time follows the client's prefix.
        task_id, queue = max(found, key=lambda pair: pair[0][LISTENER_LENGTH:])
        return queue, task_id

    def attempt_rows(
        self, queues: Sequence[str], since_ms: int | None = None, limit: int | None = None
    ) -> list[dict[str, str]]:
        """Read finished attempts of these queues, oldest first; only the newest ``limit``."""
        rows: list[dict[str, str]] = []
        for queue in self.broker.with_attempts(queues) if len(queues) > 1 else queues:
            try:
                found = self.broker.attempts(queue, since_ms, limit)
            except StoreDamaged:
                warn_of([f"queue {queue!r}: its attempts cannot be read"])
                continue
            for row in found:
                row["queue"] = queue
                rows.append(row)
        if len(queues) > 1:
            rows.sort(key=_ended_at)
        return rows if limit is None else rows[len(rows) - min(limit, len(rows)) :]

    @cached_property
    def _woken_on_close(self) -> weakref.WeakSet[threading.Event]:
        return weakref.WeakSet()

    def wake_on_close(self, event: threading.Event) -> None:
        """Set ``event`` when the client is closed, while the event is in use."""
        self._woken_on_close.add(event)

    def close(self) -> None:
        """Close the connections. Waits that are still open raise `StoreError`."""
        if self.is_open:
            self.is_open = False
            for event in list(self._woken_on_close):
                event.set()
            for each in (self._events, self._obstacles):
                if each is not None:
                    each.close()
            self.listener.stop(_closed)
            if "broker" in vars(self):
                self.broker.close()
            self.store.close()


def shut_down() -> RuntimeError:
    """Return the error for using a client that was shut down."""
    return RuntimeError("this client was shut down: call nbqueue.connect() for another")


def _ended_at(row: dict[str, str]) -> int:
    return decoding.whole_number(row.get("finished_at"), 0) or 0


def warn_of(faults: Iterable[str]) -> None:
    """Warn of records that could not be read, and are missing from a frame."""
    for fault in faults:
        warnings.warn(
            f"{fault}; `nbqueue store check` lists all faults", StoreWarning, stacklevel=4
        )


def _closed(task_id: str) -> RawOutcome:
    return RawOutcome(
        "",
        error=StoreError(
            f"the client was closed while task {task_id} was waited for; the task goes on, and "
            f"nbqueue.connect().get({task_id!r}) waits for it anew"
        ),
    )


def open_session(place: str) -> Session | None:
    """Return an open session with the store at ``place``, a URL without passwords, or None."""
    for session in list(_sessions):
        if session.is_open and session.store.url.redacted == place:
            return session
    return None


def parse_captured_limit(limit: Size | None) -> int:
    """Return the most bytes of a function in the store.

    None allows as many as a value can have.
    """
    if limit is None:
        return LARGEST_VALUE
    return min(parse_size(limit, "captured_limit"), LARGEST_VALUE)


def new_session(
    url: str | None = None,
    key: str | bytes | Keyring | None = None,
    captured_limit: Size | None = CAPTURED_LIMIT,
    durability: str | None = None,
) -> Session:
    """Connect to a store and find the signing key; see `nbqueue.connect`."""
    limit = parse_captured_limit(captured_limit)
    place = default_url() if url is None else parse_url(url)
    check_durability(durability, place)
    # There may be no key in a task; then this raises before a store is started.
    keyring = _keyring(Store(place), key) if task_mark.is_in_task() else None
    store = connect(place)
    notice = kept_store(place) if url is None else ""
    if notice:
        warnings.warn(notice, StoreWarning, stacklevel=3)
    try:
        ensure_durability(store, durability)
        session = Session(store, keyring or _keyring(store, key))
    except BaseException:
        store.close()
        raise
    session.code_limit = limit
    return session


def session_at(place: str) -> Session:
    """Return an open session with the store at ``place``, or a new one.

    ``place`` is a URL without passwords. A new one can be made for the default store (see
    `nbqueue.connect`), or if the store needs no password. Raises `UsageError` otherwise, and the
    exceptions of `nbqueue.connect`.
    """
    found = open_session(place)
    if found is not None:
        return found
    default = default_url()
    if default.redacted == place:
        return new_session(default.text)
    url = parse_url(place)
    if url.has_password:
        raise UsageError(
            f"this handle came out of a pickle, which holds no password of {place}: call "
            "nbqueue.connect() with the URL of that store first"
        )
    return new_session(url.text)


def _keyring(store: Store, key: str | bytes | Keyring | None) -> Keyring:
    if isinstance(key, Keyring):
        return key
    if isinstance(key, bytes):
        return Keyring([key])
    if key is not None and not isinstance(key, str):
        raise UsageError(f"key= must be text or 32 bytes, not {type(key).__name__}")
    if key is not None:
        # The text has the form of the environment variable, and is read by the same code.
        return Keyring.load(store.config_directory, {"NBQUEUE_KEY": key})
    return Keyring.load(store.config_directory)


def _after_fork() -> None:
    for session in list(_sessions):
        session.after_fork()


hold_while_forking(lambda: [session.listener for session in list(_sessions)])
in_children(_after_fork)
