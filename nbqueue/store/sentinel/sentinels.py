"""Ask Redis Sentinels which server is the master."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from nbqueue.errors import StoreDenied, StoreError, StoreUnreachable, StoreUnsuitable
from nbqueue.printable import shown
from nbqueue.store.server_facts import pairs_of
from nbqueue.transport.connect import Address, RawConnection, open_raw
from nbqueue.transport.handshake import Login, shake_hands
from nbqueue.transport.refusals import is_login_refused
from nbqueue.transport.resp import ProtocolError, ReplyError

ASK_SECONDS: Final = 1.0
"""Seconds for which a Sentinel is waited for, to connect and for each answer."""

_AWAY_SECONDS: Final = 5.0
"""Seconds for which a Sentinel that did not answer is left out, if others answer."""

_FRESH_SECONDS: Final = 0.25
"""Seconds for which an answer is used again, such as for several connections at once."""

_HOST: Final = re.compile(r"[A-Za-z0-9_.:%-]{1,255}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_UNKNOWN: Final = "No such master"


class Master(NamedTuple):
    """The master that Sentinels name; ``epoch`` counts the failovers before it."""

    host: str
    port: int
    epoch: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Sentinel:
    """One Sentinel, with a connection that is kept."""

    def __init__(self, address: Address, login: Login) -> None:
        self.address = address
        self._login = login
        self._raw: RawConnection | None = None
        self.away_until = 0.0

    def ask(self, *words: str) -> Any:
        """Return the reply to a command. Raises `OSError`, `ReplyError` or `ProtocolError`."""
        try:
            if self._raw is not None:
                # The Sentinel may have closed the connection since.
                with contextlib.suppress(ConnectionError):
                    return self._checked(self._raw.exchange([words])[0])
                self.close()
            self._raw = open_raw(self.address, ASK_SECONDS)
            [reply] = shake_hands(self._raw, self._login, [words])
            return self._checked(reply)
        except (OSError, ReplyError, ProtocolError):
            self.close()
            raise

    @staticmethod
    def _checked(reply: Any) -> Any:
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def close(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()


class Sentinels:
    """Finds the master of this name. Threads may share it."""

    def __init__(self, addresses: Sequence[Address], login: Login, name: str, place: str) -> None:
        """``place`` is the store's URL without passwords, for messages."""
        self._sentinels = [_Sentinel(address, login) for address in addresses]
        self._name = name
        self._place = place
        self._lock = threading.Lock()
        self._found: Master | None = None
        self._found_at = 0.0

    def master(self, fresh_seconds: float = _FRESH_SECONDS) -> Master:
        """Return the master that the Sentinels name, as of the last ``fresh_seconds``.

        All of them are asked, as one that is cut off from the others still names the old master.
        Raises `StoreUnreachable` if none answers, `StoreDenied` for a refused password,
        `StoreUnsuitable` if none knows the master.
        """
        with self._lock:
            if self._found is None or time.monotonic() - self._found_at > fresh_seconds:
                self._found, self._found_at = self._ask_all(), time.monotonic()
            return self._found

    def _ask_all(self) -> Master:
        now = time.monotonic()
        answers: list[Master] = []
        troubles: list[tuple[Address, Exception]] = []
        first = [each for each in self._sentinels if each.away_until <= now]
        for group in (first, [each for each in self._sentinels if each.away_until > now]):
            for sentinel in group:
                try:
                    answers.append(read_master(sentinel.ask("SENTINEL", "MASTER", self._name)))
                    sentinel.away_until = 0.0
                except (OSError, ReplyError, ProtocolError) as error:
                    sentinel.away_until = now + _AWAY_SECONDS
                    troubles.append((sentinel.address, error))
            newest = max(answers, key=lambda each: each.epoch, default=None)
            if newest is not None and (self._found is None or newest.epoch >= self._found.epoch):
                return newest
        if newest is None or self._found is None:
            raise self._error(troubles)
        # Where most have missed a failover, the master was set up anew. A minority is cut off.
        return newest if 2 * len(answers) > len(self._sentinels) else self._found

    def quorum_fault(self) -> str:
        """Return what a Sentinel says against a failover now; empty if one is possible."""
        with self._lock:
            for sentinel in self._sentinels:
                try:
                    sentinel.ask("SENTINEL", "CKQUORUM", self._name)
                    return ""
                except ReplyError as error:
                    if "quorum" in str(error).lower():
                        return f"the Sentinel {sentinel.address} says: {error}"
                except (OSError, ProtocolError):
                    continue
        return ""

    def _error(self, troubles: Sequence[tuple[Address, Exception]]) -> StoreError:
        """Return the exception for Sentinels of which none names a master."""
        errors = [error for _, error in troubles]
        said = "; ".join(f"the Sentinel {where} says: {error}" for where, error in troubles)
        if all(isinstance(error, ReplyError) and _UNKNOWN in str(error) for error in errors):
            return StoreUnsuitable(
                f"{self._place}: no Sentinel knows a master named {shown(self._name)} "
                f"({said}). {self._known_masters()}"
            )
        if any(isinstance(error, ReplyError) and is_login_refused(error) for error in errors):
            return StoreDenied(
                f"{self._place}: {said}. The password of the Sentinels is an option of the URL, "
                "?sentinel_password=… (and sentinel_username); that before the hosts is the "
                "servers'"
            )
        if any("unknown command" in str(error).lower() for error in errors):
            return StoreUnsuitable(
                f"{self._place}: {said}. So this is a server and no Sentinel: write the port of "
                f"the Sentinels (mostly 26379), or the URL of the server alone, "
                f"redis://{troubles[0][0]}/0"
            )
        if all(isinstance(error, ReplyError) for error in errors):
            return StoreUnsuitable(f"{self._place}: {said}")
        said = "; ".join(f"{where}: {str(error).strip('. ')}" for where, error in troubles)
        return StoreUnreachable(
            f"{self._place}: no Sentinel answers ({said}). Check that they run, their hosts and "
            "ports, and whether they use TLS (sentinel_tls=true)"
        )

    def _known_masters(self) -> str:
        """Return a sentence with the names that the first Sentinel knows."""
        with contextlib.suppress(OSError, ReplyError, ProtocolError):
            replies = self._sentinels[0].ask("SENTINEL", "MASTERS")
            names = [shown(pairs_of(each).get("name", "")) for each in replies][:10]
            return f"The first one knows {', '.join(names)}" if names else "It knows none"
        return "Check the name in the URL"

    def close(self) -> None:
        """Close the connections; the next question opens new ones."""
        with self._lock:
            for sentinel in self._sentinels:
                sentinel.close()

    def after_fork(self) -> None:
        """Share no lock and no connection with the parent."""
        self._lock = threading.Lock()
        self.close()


def read_master(reply: Any) -> Master:
    """Read the reply to SENTINEL MASTER. Raises `ProtocolError` if it names no address."""
    facts = pairs_of(reply)
    host, port, epoch = (facts.get(name, "") for name in ("ip", "port", "config-epoch"))
    if not (_HOST.fullmatch(host) and _NUMBER.fullmatch(port) and 0 < int(port) < 65536):
        raise ProtocolError(f"it names no address, but {shown(str(facts)[:200])}")
    return Master(host, int(port), int(epoch) if _NUMBER.fullmatch(epoch) else 0)
