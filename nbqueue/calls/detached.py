"""Large arguments and results beside their envelopes, in pieces. No keys, no pickles, no I/O.

The head of such an envelope (codec 2) ends with what lies beside it::

    0:8     how many bytes that is (u64, big-endian)
    8:12    how many bytes of it lie in each piece but the last (u32)
    12:44   its SHA-256

So the signature of the head covers all of it, and the head can be trusted before the rest is read.
An envelope is *whole* when what lies beside it follows its head.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

from nbqueue.runtime.buffers import PIECE, Body, Piece, cut

_BESIDE: Final = struct.Struct(">QI32s")
BESIDE_SIZE: Final = _BESIDE.size
_LEAST_PIECE = 1_000_000
"""More than a connection reads at once: what comes in one breath is hashed in the wrong order."""
_MOST_PIECE = 64_000_000


class DetachedBody(NamedTuple):
    """What lies beside an envelope: how long it is, how long its pieces are, and its SHA-256."""

    size: int
    piece: int
    digest: bytes

    @property
    def number(self) -> int:
        """How many pieces there are."""
        return -(-self.size // self.piece)

    @property
    def sizes(self) -> list[int]:
        """How long each piece is."""
        whole, rest = divmod(self.size, self.piece)
        return [self.piece] * whole + [rest] * bool(rest)

    def is_of(self, data: Piece) -> bool:
        """Whether ``data`` is what was signed."""
        return len(data) == self.size and sha256(data).digest() == self.digest

    def pack(self) -> bytes:
        return _BESIDE.pack(*self)


def beside_of(parts: Iterable[Piece], digest: bytes = b"") -> tuple[DetachedBody, list[Body]]:
    """What is to be said of bytes that lie in ``parts``, and the pieces that they become.

    ``digest`` is their SHA-256, if somebody found that out already.
    """
    kept = list(parts)
    if not digest:
        found = sha256()
        for part in kept:
            found.update(part)
        digest = found.digest()
    return DetachedBody(sum(map(len, kept)), PIECE, digest), cut(kept, PIECE)


def read_beside(envelope: Piece, at: int) -> DetachedBody:
    """What a head says there. Nothing of it may be trusted before the head was verified.

    Raises `ValueError` for what nobody writes.
    """
    found = DetachedBody(*_BESIDE.unpack_from(envelope, at))
    if not _LEAST_PIECE <= found.piece <= _MOST_PIECE:
        raise ValueError(f"it lies in pieces of {found.piece} bytes")
    return found
