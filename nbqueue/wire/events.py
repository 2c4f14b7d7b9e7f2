"""The entries of a queue's stream of events, as a reader finds them."""

from __future__ import annotations

from collections.abc import Sequence


def read_event(pairs: Sequence[bytes]) -> tuple[str, int, list[str]] | None:
    """What happened, when (Unix ms) and to which tasks; None for an entry that says no such thing.

    ``pairs`` are the names and values of the entry's fields, in turn.
    """
    fields = dict(zip(pairs[::2], pairs[1::2], strict=False))
    event, at, ids = (fields.get(name) for name in (b"event", b"at", b"ids"))
    if event is None or at is None or ids is None or not at.isdigit():
        return None
    return event.decode(), int(at), ids.decode("utf-8", "replace").split(" ")
