"""Bytes that are too many to copy: received where they stay, and sent from where they lie."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

Piece = bytes | bytearray | memoryview

LARGE: Final = 65_536
"""From so many bytes on a copy, or a way through Lua, costs more than what avoids it."""

_MOST_AT_ONCE = 64


class Pieces:
    """Bytes that lie in several places; ``bytes(…)`` puts them together."""

    __slots__ = ("_size", "parts")

    def __init__(self, *parts: Piece) -> None:
        self.parts = parts
        self._size = sum(map(len, parts))

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


Body = bytes | Pieces
"""What lies in one place if it is small."""


def parts_of(body: Piece | Pieces) -> tuple[Piece, ...]:
    """Where it lies."""
    return body.parts if isinstance(body, Pieces) else (body,)


class Incoming:
    """So many bytes that are still to come, all in one place from the beginning."""

    __slots__ = ("_at", "_file", "_size", "_view")

    def __init__(self, size: int, first: Piece) -> None:
        """``first`` are those that have come, not all of them."""
        # The one way to bytes that are filled in later, and handed out without a copy.
        self._file = io.BytesIO()
        self._file.seek(size - 1)
        self._file.write(b"\0")
        self._view = self._file.getbuffer()
        self._view[: len(first)] = first
        self._size, self._at = size, len(first)

    @property
    def room(self) -> memoryview:
        """Where the next ones go."""
        return self._view[self._at :]

    def came(self, count: int) -> bool:
        """So many have come. Returns whether these were the last."""
        self._at += count
        return self._at == self._size

    def whole(self, but: int = 0) -> bytes:
        """All of them, once they have come, but the last few."""
        self._view.release()
        self._file.truncate(self._size - but)
        return self._file.getvalue()


def send_pieces(connection: Any, pieces: deque[Piece], *, one_by_one: bool = False) -> None:
    """Send pieces, none of them empty, through a socket that does not block, and drop what went.

    Raises what the socket raises, also when it takes no more for now. ``one_by_one`` is for TLS.
    """
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


def send_all(connection: Any, parts: Iterable[Piece]) -> None:
    """The same for a socket that blocks, until all is sent."""
    send_pieces(connection, deque(part for part in parts if len(part)))
