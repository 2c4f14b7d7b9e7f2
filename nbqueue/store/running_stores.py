"""Find the embedded stores of this user that run on this machine. Starts none of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nbqueue.store.embedded_folder import is_socket, read_record
from nbqueue.store.url import StoreURL, stores_folder
from nbqueue.transport.connect import RawConnection, open_path
from nbqueue.transport.resp import ProtocolError, ReplyError

_SOCKETS = Path("/proc/net/unix")
_LISTENING = b"00010000"
"""The flags of a socket in `_SOCKETS` that accepts connections."""
_MOST_STORES = 50
_ANSWER_SECONDS = 0.2


def running_stores() -> list[tuple[StoreURL, Path]]:
    """Return URL and socket of each running embedded store of this user.

    On Linux that is every one; elsewhere those with names, such as ``embedded://jobs``.
    """
    found: dict[StoreURL, Path] = {}
    for socket in _sockets():
        try:
            if socket.stat().st_uid != os.geteuid():
                continue
            [reply] = ask(socket, [("CONFIG", "GET", "dir")])
            folder = Path(os.fsdecode(reply[1]))
        except (OSError, LookupError, TypeError, ReplyError, ProtocolError):
            continue  # it ended meanwhile, does not answer, or is no Redis
        if read_record(folder).get("socket") == str(socket):
            found[StoreURL("embedded", path=str(folder))] = socket
        if len(found) == _MOST_STORES:
            break
    return list(found.items())


def ask(socket: Path, commands: Sequence[Sequence[str]]) -> list[Any]:
    """Return the replies of the server at ``socket``, refusals as values. Raises OSError."""
    with RawConnection(open_path(os.fspath(socket), _ANSWER_SECONDS)) as connection:
        return connection.exchange(commands)


def _sockets() -> Iterator[Path]:
    """Yield the sockets on which an embedded server of this user may listen."""
    if sys.platform == "win32":
        return
    try:
        lines = _SOCKETS.read_bytes().splitlines()
    except OSError:
        lines = []
    if not lines:
        for folder in stores_folder().glob("*"):
            socket = read_record(folder).get("socket")
            if isinstance(socket, str):
                yield Path(socket)
        return
    for line in lines:
        columns = line.split(None, 7)
        if len(columns) == 8 and columns[3] == _LISTENING and is_socket(os.fsdecode(columns[7])):
            yield Path(os.fsdecode(columns[7]))
