"""Bytes that are too many to copy: received where they stay, and sent from where they lie."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

Piece = bytes | bytearray | memoryview

LARGE: Final = 65_536
"""From so many bytes on a copy, or a way through Lua, costs more than what avoids it."""

PIECE: Final = 4_000_000
"""At most so many bytes lie in one value of the store where we may choose: Redis's allocator gives
values of 8 MB and more back to the system at once, and each page of the next costs a fault."""

LARGEST_VALUE: Final = 512 << 20
"""The most bytes that one value of a Redis may have by default (``proto-max-bulk-len``)."""

_MOST_AT_ONCE = 64


def rest_of(data: bytes | memoryview, at: int) -> bytes | memoryview:
    """What follows there, not copied if it is large."""
    return data[at:] if len(data) - at <= LARGE else memoryview(data)[at:]


class ChunkedBytes:
    """Bytes that lie in several places; ``bytes(…)`` puts them together."""

    __slots__ = ("_size", "parts")

    def __init__(self, *parts: Piece) -> None:
        self.parts = parts
        self._size = sum(map(len, parts))

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


Body = bytes | ChunkedBytes
"""What lies in one place if it is small."""


def parts_of(body: Piece | ChunkedBytes) -> tuple[Piece, ...]:
    """Where it lies."""
    return body.parts if isinstance(body, ChunkedBytes) else (body,)


def cut(parts: Iterable[Piece], most: int) -> list[Body]:
    """The same bytes in bodies of ``most`` each but the last; nothing is copied."""
    bodies: list[Body] = []
    body: list[Piece] = []
    room = most
    for part in parts:
        view = memoryview(part)
        while len(view):
            body.append(view[:room])
            room -= len(body[-1])
            view = view[len(body[-1]) :]
            if not room:
                bodies.append(ChunkedBytes(*body))
                body, room = [], most
    if body:
        bodies.append(ChunkedBytes(*body))
    return bodies


class ReceiveBuffer:
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


IN_PLACE: Final = b"in place"
"""Stands for a piece that was received where it belongs."""


class Slot:
    """Where one piece of a `Gathering` goes: by itself, or, as an `ReceiveBuffer`, as it comes.

    Pieces must come in their order, as what is spare behind one is where the next begins.
    """

    __slots__ = ("_at", "_digest", "_size", "_view", "is_good", "refusal")

    def __init__(self, view: memoryview, size: int, digest: Any = None) -> None:
        self._view = view
        self._size = size
        self._digest = digest
        self._at = 0
        self.is_good: bool | None = None
        """Whether what came is a piece of this size; None until something did."""
        self.refusal: Exception | None = None
        """What was said in its place."""

    def incoming(self, size: int, first: Piece) -> Slot | None:
        """Where a piece that begins with ``first`` may be received; None if it does not fit.
        ``size`` includes what is spare."""
        if size != len(self._view):
            return None
        self._at = 0  # it may have begun before, over a connection that was lost
        self._view[: len(first)] = first
        self.came(len(first))
        return self

    @property
    def room(self) -> memoryview:
        """Where the next bytes go."""
        return self._view[self._at :]

    def came(self, count: int) -> bool:
        """So many have come. Returns whether these were the last."""
        at = self._at
        self._at += count
        if self._digest is not None and at < self._size:
            self._digest.update(self._view[at : min(self._at, self._size)])
        return self._at == len(self._view)

    def whole(self, but: int = 0) -> bytes:
        """What stands for the piece, once it has come."""
        return IN_PLACE

    def take(self, piece: object) -> None:
        """The piece came: as what it is, or as `IN_PLACE`. Anything else is no piece."""
        self.is_good = piece is IN_PLACE
        self.refusal = piece if isinstance(piece, Exception) else None
        if not self.is_good and isinstance(piece, bytes) and len(piece) == self._size:
            self._view[: self._size] = piece
            self.came(self._size)
            self.is_good = True

    def close(self) -> None:
        self._view.release()


class Gathering:
    """Bytes that come in several pieces of known sizes, and lie in one place from the beginning."""

    def __init__(
        self, first: Piece, sizes: Sequence[int], spare: int = 0, digest: Any = None
    ) -> None:
        """``first`` are those that are there; each piece may be followed by ``spare`` more, which
        do not count. ``digest``, one of `hashlib`, is told of the pieces as they come: then the
        next ones are on their way meanwhile."""
        self._spare = spare
        self._all = ReceiveBuffer(len(first) + sum(sizes) + spare, first)
        self.slots: list[Slot] = []
        room, at = self._all.room, 0
        for size in sizes:
            self.slots.append(Slot(room[at : at + size + spare], size, digest))
            at += size

    @property
    def is_over(self) -> bool:
        """Whether something came for each piece."""
        return all(slot.is_good is not None for slot in self.slots)

    @property
    def refusal(self) -> Exception | None:
        """What was said in place of a piece, if anything was."""
        return next((slot.refusal for slot in self.slots if slot.refusal is not None), None)

    def whole(self) -> bytes | None:
        """All of them, once it is over; None if a piece was missing, or had another size."""
        for slot in self.slots:
            slot.close()
        return self._all.whole(self._spare) if all(slot.is_good for slot in self.slots) else None


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
