"""Optional extensions of a call's envelope.

The encoding is the total length (u16, big-endian, of the rest), then for each extension a tag (u8),
a length (u16) and that many bytes::

    tag     content
    1       seed: the number of the task (u64), then the seed, big-endian without leading zeros

An unknown tag makes the call unreadable, because ignoring it could change what the call does.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from nbqueue.errors import SignatureError
from nbqueue.options import LONGEST_SEED

SEED: Final = 1

_LENGTH: Final = struct.Struct(">H")
_EXTENSION: Final = struct.Struct(">BH")
_NUMBER: Final = struct.Struct(">Q")


class Seed(NamedTuple):
    """The seed of a task's random numbers, and the task's number within it."""

    seed: int
    number: int

    def pack(self) -> bytes:
        """Encode the seed for an envelope or for an executor."""
        size = (self.seed.bit_length() + 7) // 8
        return _NUMBER.pack(self.number) + self.seed.to_bytes(size, "big")


def read_seed(data: bytes | memoryview) -> Seed:
    """Decode the bytes of `Seed.pack`. Raises `ValueError` if they are invalid."""
    if not _NUMBER.size <= len(data) <= _NUMBER.size + LONGEST_SEED:
        raise ValueError(f"a seed cannot have {len(data)} bytes")
    seed = int.from_bytes(data[_NUMBER.size :], "big")
    return Seed(seed, _NUMBER.unpack_from(data)[0])


def pack_extensions(seed: Seed) -> bytes:
    """Encode the extensions of a call."""
    body = seed.pack()
    packed = _EXTENSION.pack(SEED, len(body)) + body
    return _LENGTH.pack(len(packed)) + packed


def read_extensions(envelope: bytes | memoryview, at: int) -> tuple[Seed | None, int]:
    """Decode the extensions that begin at ``at``; also return where they end.

    Raises `SignatureError` for extensions that are truncated, malformed or unknown.
    """
    seed: Seed | None = None
    try:
        (size,) = _LENGTH.unpack_from(envelope, at)
        at += _LENGTH.size
        end = at + size
        if end > len(envelope):
            raise ValueError("they are cut short")
        while at < end:
            tag, size = _EXTENSION.unpack_from(envelope, at)
            at += _EXTENSION.size
            if tag != SEED:
                raise SignatureError(
                    f"this call asks for something (extension {tag}) that only a newer nbqueue "
                    "knows: upgrade this worker"
                )
            if at + size > end:
                raise ValueError("one is cut short")
            seed = read_seed(envelope[at : at + size])
            at += size
    except (ValueError, struct.error) as error:
        raise SignatureError(f"the extensions of this call cannot be read: {error}") from None
    return seed, end
