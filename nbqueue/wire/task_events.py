"""Decode the entries of a queue's stream of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nbqueue.wire.decoding import LAST_MS, whole_number


def ids_of(entry: Mapping[bytes, bytes]) -> list[str]:
    """The ids of the tasks that an entry is about, in order.

    ``ids`` holds them with spaces between; or ``rests`` does without their common ``head``. An id
    with a space, which programs in Go may make, has an entry of its own with ``id``.
    """
    alone = entry.get(b"id")
    if alone is not None:
        return [alone.decode("utf-8", "replace")]
    rests = entry.get(b"rests")
    if rests is not None:
        head = entry.get(b"head", b"")
        return [(head + rest).decode("utf-8", "replace") for rest in rests.split(b" ")]
    return [each.decode("utf-8", "replace") for each in entry.get(b"ids", b"").split(b" ") if each]


def read_event(pairs: Sequence[bytes]) -> tuple[str, int, list[str]] | None:
    """Decode an entry: the event, its time in Unix ms, and the tasks.

    None if it is malformed. ``pairs`` are the names and values of the entry's fields, in turn.
    """
    entry = dict(zip(pairs[::2], pairs[1::2], strict=False))
    event, at = entry.get(b"event"), entry.get(b"at")
    at_ms = whole_number(at, 0, LAST_MS)
    if event is None or at_ms is None:
        return None
    return event.decode("utf-8", "replace"), at_ms, ids_of(entry)
