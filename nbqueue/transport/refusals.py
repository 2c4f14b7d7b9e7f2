"""Error replies, and what they mean for the connection and the command."""

from __future__ import annotations

import re
from typing import Final

from nbqueue.errors import NbqueueError

_WRAPPED: Final = re.compile(r" -([A-Z]{3,}) ")


class ReplyError(NbqueueError):
    """A server's refusal of a command; ``code`` is the first word of the reply."""

    @property
    def code(self) -> str:
        return str(self).partition(" ")[0]

    @property
    def text(self) -> str:
        """The refusal without its code."""
        code, _, text = str(self).partition(" ")
        return text if text and code.isupper() else str(self)

    @property
    def reason(self) -> str:
        """The code; for an error within a script, that error's.

        Servers before 7.0 wrap such an error in ``ERR``.
        """
        code, _, text = str(self).partition(" ")
        if code != "ERR":
            return code
        if "max number of clients" in text:
            return "MAXCLIENTS"
        if "The user executing the script" in text:
            return "NOPERM"
        if "Script killed by user" in text:
            return "KILLED"
        wrapped = _WRAPPED.search(text)
        return wrapped[1] if wrapped else code


_MOVED: Final = frozenset({"MOVED", "ASK"})
_NOT_SERVING: Final = _MOVED | {
    *("LOADING", "MASTERDOWN", "READONLY", "NOAUTH", "WRONGPASS", "MAXCLIENTS", "DENIED"),
}
_NOT_READY: Final = frozenset(
    {
        *("LOADING", "MASTERDOWN", "READONLY", "MAXCLIENTS", "BUSY", "TRYAGAIN", "CLUSTERDOWN"),
        *("NOREPLICAS", "KILLED"),
    }
)
_TRANSIENT: Final = _NOT_SERVING | _NOT_READY | {"OOM", "MISCONF", "NOPERM"}

STORE_WIDE: Final = (_NOT_READY | {"OOM", "MISCONF"}) - {"KILLED"}
"""Reasons for which a server refuses all commands of a kind."""

_LOGIN: Final = (
    "invalid password",
    "without any password configured",
    "no password is set",
)


def ends_connection(error: ReplyError) -> bool:
    """Return whether this connection cannot be used any more.

    Its server is not ready, is a replica, or does not hold the key. Another connection may reach
    another server, or the same one when it is ready.
    """
    return error.reason in _NOT_SERVING


def is_moved(error: ReplyError) -> bool:
    """Return whether the key is on another server of a Cluster."""
    return error.reason in _MOVED


def is_not_ready(error: ReplyError) -> bool:
    """Return whether the command should succeed soon.

    The server is loading or failing over.
    """
    return error.reason in _NOT_READY


def is_transient(error: ReplyError) -> bool:
    """Return whether the command may succeed later.

    The server may first have to be mended.
    """
    return error.reason in _TRANSIENT


def is_login_refused(error: ReplyError) -> bool:
    """Return whether the server wants another password, or any."""
    return error.code in ("NOAUTH", "WRONGPASS") or any(text in str(error) for text in _LOGIN)


def is_out_of_clients(error: ReplyError) -> bool:
    """Return whether the server has as many clients as it takes."""
    return error.reason == "MAXCLIENTS"
