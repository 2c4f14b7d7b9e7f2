"""Buffers for large values, which are received and sent without copying."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

Piece = bytes | bytearray | memoryview

LARGE: Final = 65_536
"""The size in bytes from which to avoid copies and Lua."""

PIECE: Final = 4_000_000
"""The maximum size of one value in the store, in bytes.

Redis's allocator returns values of 8 MB and more to the system at once, and each page of the next
one costs a page fault.
"""

LARGEST_VALUE: Final = 512 << 20
"""Redis's default maximum size of a value (``proto-max-bulk-len``), in bytes."""

_MOST_AT_ONCE = 64


def rest_of(data: bytes | memoryview, at: int) -> bytes | memoryview:
    """Return the bytes from ``at`` on, without copying if they are many."""
    return data[at:] if len(data) - at <= LARGE else memoryview(data)[at:]


class ChunkedBytes:
    """Bytes in several chunks; ``bytes(…)`` joins them."""

    __slots__ = ("_size", "parts")

    def __init__(self, *parts: Piece) -> None:
        self.parts = parts
        self._size = sum(map(len, parts))

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


Body = bytes | ChunkedBytes
"""Bytes in one piece if they are few, else in chunks."""


def parts_of(body: Piece | ChunkedBytes) -> tuple[Piece, ...]:
    """Return the chunks of a body."""
    return body.parts if isinstance(body, ChunkedBytes) else (body,)


def cut(parts: Iterable[Piece], most: int) -> list[Body]:
    """Split chunks into bodies of ``most`` bytes without copying.

    The last may be shorter.
    """
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
    """A buffer of known size for bytes to be received."""

    __slots__ = ("_at", "_file", "_size", "_view")

    def __init__(self, size: int, first: Piece) -> None:
        """``first`` are the bytes already received."""
        # The only way to get bytes that are filled in later and returned without a copy.
        self._file = io.BytesIO()
        self._file.seek(size - 1)
        self._file.write(b"\0")
        self._view = self._file.getbuffer()
        self._view[: len(first)] = first
        self._size, self._at = size, len(first)

    @property
    def room(self) -> memoryview:
        """Return the free part of the buffer."""
        return self._view[self._at :]

    def came(self, count: int) -> bool:
        """Record ``count`` more bytes. Returns whether the buffer is full."""
        self._at += count
        return self._at == self._size

    def whole(self, but: int = 0) -> bytes:
        """Return the full buffer, without ``but`` bytes at its end."""
        self._view.release()
        self._file.truncate(self._size - but)
        return self._file.getvalue()


IN_PLACE: Final = b"in place"
"""Marks a piece that was received directly into its place."""


class Slot:
    """The place of one piece of a `Gathering`, received directly or copied.

    Pieces must be received in order, because the spare bytes after one overlap the next.
    """

    __slots__ = ("_at", "_digest", "_size", "_view", "is_good", "refusal")

    def __init__(self, view: memoryview, size: int, digest: Any = None) -> None:
        self._view = view
        self._size = size
        self._digest = digest
        self._at = 0
        self.is_good: bool | None = None
        """True for a piece of the expected size, False for another reply.

        None before the reply arrives.
        """
        self.refusal: Exception | None = None
        """The error that was received instead of the piece."""

    def incoming(self, size: int, first: Piece) -> Slot | None:
        """Return a buffer for a piece that begins with ``first``, or None.

        None if the piece does not fit. ``size`` includes the spare bytes.
        """
        if size != len(self._view):
            return None
        self._at = 0  # it may have begun before, over a connection that was lost
        self._view[: len(first)] = first
        self.came(len(first))
        return self

    @property
    def room(self) -> memoryview:
        """Return the free part of the place."""
        return self._view[self._at :]

    def came(self, count: int) -> bool:
        """Record ``count`` more bytes. Returns whether the piece is complete."""
        at = self._at
        self._at += count
        if self._digest is not None and at < self._size:
            self._digest.update(self._view[at : min(self._at, self._size)])
        return self._at == len(self._view)

    def whole(self, but: int = 0) -> bytes:
        """Return the marker of the complete piece."""
        return IN_PLACE

    def take(self, piece: object) -> None:
        """Store a received piece, or its marker `IN_PLACE`.

        Other values mean a missing piece.
        """
        self.is_good = piece is IN_PLACE
        self.refusal = piece if isinstance(piece, Exception) else None
        if not self.is_good and isinstance(piece, bytes) and len(piece) == self._size:
            self._view[: self._size] = piece
            self.came(self._size)
            self.is_good = True

    def close(self) -> None:
        self._view.release()


class Gathering:
    """A contiguous buffer for bytes received in pieces of known sizes."""

    def __init__(
        self, first: Piece, sizes: Sequence[int], spare: int = 0, digest: Any = None
    ) -> None:
        """``first`` are the bytes that are already known.

        Each piece may be followed by ``spare`` more bytes, which are ignored. ``digest``, a hash of
        `hashlib`, is updated with each piece as it arrives, while the next ones are on their way.
        """
        self._spare = spare
        self._all = ReceiveBuffer(len(first) + sum(sizes) + spare, first)
        self.slots: list[Slot] = []
        room, at = self._all.room, 0
        for size in sizes:
            self.slots.append(Slot(room[at : at + size + spare], size, digest))
            at += size

    @property
    def is_over(self) -> bool:
        """True if a reply was received for each piece."""
        return all(slot.is_good is not None for slot in self.slots)

    @property
    def refusal(self) -> Exception | None:
        """The error that was received instead of a piece, if any."""
        return next((slot.refusal for slot in self.slots if slot.refusal is not None), None)

    def whole(self) -> bytes | None:
        """Return all bytes.

        None if a piece was missing or had another size.
        """
        for slot in self.slots:
            slot.close()
        return self._all.whole(self._spare) if all(slot.is_good for slot in self.slots) else None


def send_pieces(connection: Any, pieces: deque[Piece], *, one_by_one: bool = False) -> None:
    """Send non-empty pieces through a non-blocking socket, and drop what was sent.

    Raises the socket's errors, including the one for a full buffer. ``one_by_one`` is for TLS.
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
