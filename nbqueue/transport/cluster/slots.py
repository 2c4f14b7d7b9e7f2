"""The slots of keys in a Redis Cluster."""

from __future__ import annotations

import binascii
from functools import lru_cache
from typing import Any, Final, NamedTuple

from nbqueue.transport.topology import ANYWHERE, Key, Place

SLOTS: Final = 16_384
"""Number of slots of every cluster."""

_REFERENCE_SLOT: Final = 0


class Address(NamedTuple):
    """Host and port of a node."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class SlotRange(NamedTuple):
    """Slots from ``first`` to ``last``, both included, and the master that holds them."""

    first: int
    last: int
    master: Address


def tag_of(key: str | bytes) -> bytes:
    """Return the part of a key that decides its slot: its hash tag, or all of it."""
    name = key if isinstance(key, bytes) else key.encode("utf-8", "surrogateescape")
    opening = name.find(b"{")
    if opening >= 0:
        closing = name.find(b"}", opening + 1)
        if closing > opening + 1:
            return name[opening + 1 : closing]
    return name


@lru_cache(maxsize=16_384)
def slot_of(key: str | bytes) -> int:
    """Return the slot of a key."""
    return binascii.crc_hqx(tag_of(key), 0) % SLOTS


def slot_of_place(place: Place) -> int:
    """Return the slot of a queue or key.

    For `ANYWHERE` it is always the same one, so that all programs ask one node for the time.
    """
    if place is ANYWHERE:
        return _REFERENCE_SLOT
    if isinstance(place, Key):
        return slot_of(place.name)
    return slot_of(f"{{{place}}}")


def read_slots(reply: Any, asked: Address) -> list[SlotRange]:
    """Read the reply to CLUSTER SLOTS of the node at ``asked``.

    A node that does not know its own host sends none: it is the one that was asked. Raises
    `ValueError` for anything else.
    """
    found: list[SlotRange] = []
    try:
        for first, last, (host, port, *_), *_replicas in reply:
            name = host.decode() if host and host != b"?" else asked.host
            found.append(SlotRange(int(first), int(last), Address(name, int(port))))
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"no map of slots: {reply!r:.80}") from error
    if any(not 0 <= each.first <= each.last < SLOTS for each in found):
        raise ValueError(f"no map of slots: {reply!r:.80}")
    return found


def read_redirection(text: str, asked: Address) -> tuple[int, Address] | None:
    """Read slot and address of the text of a MOVED or ASK; None if there is none."""
    words = text.split()
    if len(words) != 3 or not words[1].isdigit() or int(words[1]) >= SLOTS:
        return None
    host, colon, port = words[2].rpartition(":")
    if not colon or not port.isdigit():
        return None
    return int(words[1]), Address(host.strip("[]") or asked.host, int(port))
