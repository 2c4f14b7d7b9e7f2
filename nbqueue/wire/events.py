"""The entries of a queue's events, read."""

from __future__ import annotations

from collections.abc import Mapping


def ids_of(entry: Mapping[bytes, bytes]) -> list[str]:
    """The ids of the tasks that an entry is about, in order.

    They lie in ``ids`` with a space between. An id of a program in Go may itself contain a space:
    it lies alone, in an entry of its own, in ``id``.
    """
    alone = entry.get(b"id")
    if alone is not None:
        return [alone.decode("utf-8", "replace")]
    return [each.decode("utf-8", "replace") for each in entry.get(b"ids", b"").split(b" ") if each]
