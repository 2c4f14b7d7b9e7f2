"""Large arguments and results, stored in pieces apart from their envelopes.

The head of such an envelope (codec 2) ends with a description of the detached body::

    0:8     its length in bytes (u64, big-endian)
    8:12    the length of each piece but the last (u32)
    12:44   its SHA-256

The signature of the head therefore covers the body, and the head can be verified before the body is
read. An envelope is *whole* when the body follows its head.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

from nbqueue.runtime.buffers import PIECE, Body, Piece, cut

_DETACHED: Final = struct.Struct(">QI32s")
DESCRIPTION_SIZE: Final = _DETACHED.size
_LEAST_PIECE = 1_000_000
"""Minimum size of a piece.

Larger than one read of a connection: pieces that arrive in a single read would be hashed in the
wrong order.
"""
_MOST_PIECE = 64_000_000


class DetachedBody(NamedTuple):
    """Describes a detached body: its length, the length of its pieces, its SHA-256."""

    size: int
    piece: int
    digest: bytes

    @property
    def number(self) -> int:
        """The number of pieces."""
        return -(-self.size // self.piece)

    @property
    def sizes(self) -> list[int]:
        """The length of each piece."""
        whole, rest = divmod(self.size, self.piece)
        return [self.piece] * whole + [rest] * bool(rest)

    def is_of(self, data: Piece) -> bool:
        """Return whether ``data`` has the signed length and digest."""
        return len(data) == self.size and sha256(data).digest() == self.digest

    def pack(self) -> bytes:
        return _DETACHED.pack(*self)


def describe_body(parts: Iterable[Piece], digest: bytes = b"") -> tuple[DetachedBody, list[Body]]:
    """Describe the bytes in ``parts``, and split them into pieces.

    ``digest`` is their SHA-256, if it is already known.
    """
    kept = list(parts)
    if not digest:
        found = sha256()
        for part in kept:
            found.update(part)
        digest = found.digest()
    return DetachedBody(sum(map(len, kept)), PIECE, digest), cut(kept, PIECE)


def read_description(envelope: Piece, at: int) -> DetachedBody:
    """Decode the description in a head.

    Do not trust it before the head is verified. Raises `ValueError` if it is invalid.
    """
    found = DetachedBody(*_DETACHED.unpack_from(envelope, at))
    if not _LEAST_PIECE <= found.piece <= _MOST_PIECE:
        raise ValueError(f"its pieces have {found.piece} bytes")
    return found
