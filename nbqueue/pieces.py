"""Bytes that are too many to copy: sent from where they lie, in pieces."""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

Piece = bytes | bytearray | memoryview

LARGE: Final = 65_536
"""From so many bytes on a copy, or a way through Lua, costs more than what avoids it."""

_MOST_AT_ONCE = 64


def size_of(pieces: Iterable[Piece]) -> int:
    """How many bytes they are together."""
    return sum(map(len, pieces))


def send_pieces(connection: Any, pieces: deque[Piece]) -> None:
    """Send pieces, none of them empty, through a socket that does not block, and drop what went.

    Raises what the socket raises, also when it takes no more for now.
    """
    one_by_one = isinstance(connection, ssl.SSLSocket)
    while pieces:
        if one_by_one or len(pieces) == 1:
            sent = connection.send(pieces[0])
        else:
            sent = connection.sendmsg(list(islice(pieces, _MOST_AT_ONCE)))
        while sent:
            size = len(pieces[0])
            if sent < size:
                pieces[0] = memoryview(pieces[0])[sent:]
                break
            pieces.popleft()
            sent -= size
