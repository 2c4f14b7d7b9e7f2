"""Notice that another server became the master, and end the connections to the old one.

An old master that is cut off from the Sentinels keeps its clients, and what they write there is
lost. So the Sentinels are asked twice a second who is the master, in a thread of each store that
has connections.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from typing import Any, Final

from nbqueue.errors import StoreError, StoreUnreachable, StoreUnsuitable
from nbqueue.store.sentinel.sentinels import Master, Sentinels
from nbqueue.store.server_facts import version_of
from nbqueue.store.server_programs import OLDEST
from nbqueue.store.url import StoreURL
from nbqueue.transport.connect import Address, RawConnection, TlsOptions
from nbqueue.transport.handshake import Login

POLL_SECONDS: Final = 0.5
"""Seconds between two questions to the Sentinels."""

QUESTIONS: Final = (("ROLE",), ("HELLO",))
"""The questions to a server, the replies to which `MasterWatch.check` takes."""

log = logging.getLogger("nbqueue.store")

_logged: dict[str, Master] = {}
"""The master that was logged last, by store, as a process may have several clients of one."""


class MasterWatch:
    """The master of a store behind Sentinels, and the connections to it."""

    def __init__(self, url: StoreURL, tls: TlsOptions | None) -> None:
        self._tls = tls if url.uses_tls else None
        sentinel_tls = tls if _or(url.sentinel_tls, url.uses_tls) else None
        self._place = url.redacted
        self.sentinels = Sentinels(
            [Address(host, port, tls=sentinel_tls) for host, port in url.hosts],
            Login(url.sentinel_username, url.sentinel_password),
            url.master or "",
            url.redacted,
        )
        self.level = logging.WARNING
        """The level at which a new master is logged."""
        self.after_fork()

    def after_fork(self) -> None:
        """Share nothing with the parent, in a child process."""
        self.sentinels.after_fork()
        self._lock = threading.Lock()
        self._connections: weakref.WeakKeyDictionary[RawConnection, Master] = (
            weakref.WeakKeyDictionary()
        )
        self._master: Master | None = None
        self._ending: threading.Event | None = None
        """Ends the thread when it is set; None while none runs."""

    def address(self) -> tuple[Address, Master]:
        """Return the master's address. Raises as `Sentinels.master` does."""
        master = self.sentinels.master()
        self._note(master)
        return Address(master.host, master.port, tls=self._tls), master

    def add(self, raw: RawConnection, master: Master) -> None:
        """Have a connection to ``master`` end when another server is the master."""
        with self._lock:
            self._connections[raw] = master
            if self._ending is None:
                self._ending = threading.Event()
                threading.Thread(
                    target=_watch,
                    args=(weakref.ref(self), self._ending),
                    name="nbqueue-sentinel",
                    daemon=True,
                ).start()

    def check(self, master: Master, role_reply: Any, hello: Any) -> None:
        """Raise `StoreError` for a server that is no master, or older than the one before.

        Raises `StoreUnreachable` for a replica, as it may be promoted soon.
        """
        version = version_of(hello)
        if version is not None and version < OLDEST:
            raise StoreUnsuitable(
                f"{self._place}: the master is now {master}, which is Redis "
                f"{'.'.join(map(str, version))}, and nbqueue needs 6.2 or newer. Upgrade it, or "
                "promote another one: redis-cli -p 26379 SENTINEL FAILOVER name"
            )
        role = role_reply[0] if isinstance(role_reply, list) and role_reply else None
        # A user who may not ask is let in: a replica refuses writes anyway.
        if isinstance(role, bytes) and role != b"master":
            says = "is a replica" if role == b"slave" else f"has the role {role[:40]!r}"
            raise StoreUnreachable(
                f"{self._place}: the Sentinels name {master} as the master, which says that it "
                f"{says}: a failover may be under way"
            )

    def look(self) -> None:
        """Ask who is the master, and end the connections to any other server."""
        with contextlib.suppress(StoreError):  # the connections that work go on
            self._note(self.sentinels.master(POLL_SECONDS / 2))

    def _note(self, master: Master) -> None:
        with self._lock:
            old, self._master = self._master, master
            outdated = [raw for raw, to in self._connections.items() if to[:2] != master[:2]]
            for raw in outdated:
                del self._connections[raw]
        if old is not None and old[:2] != master[:2] and _logged.get(self._place) != master:
            _logged[self._place] = master
            text = "store has a new master url=%s master=%s before=%s"
            log.log(self.level, text, self._place, master, old)
        for raw in outdated:
            raw.cut()

    def close(self) -> None:
        """End the thread and the connections to the Sentinels. Doing it twice is harmless."""
        with self._lock:
            ending, self._ending = self._ending, None
            self._connections.clear()
        if ending is not None:
            ending.set()
        self.sentinels.close()


def _watch(found: weakref.ref[MasterWatch], ending: threading.Event) -> None:
    """Look again and again, until the watch is closed or garbage."""
    while not ending.wait(POLL_SECONDS):
        watch = found()
        if watch is None:
            return
        watch.look()
        del watch


def _or(value: bool | None, otherwise: bool) -> bool:
    return otherwise if value is None else value
