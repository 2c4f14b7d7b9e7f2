"""Exact time-outs and deadlines of messages, to the millisecond.

Asynq's fields hold whole seconds, rounded up so that nothing ends early. What is exact travels in
a header, which any program may lose: then the whole seconds hold. Calls have it in their payload.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from nbqueue.wire.decoding import whole_number

OWN_HEADERS: Final = "nbq:"
"""Prefix of nbqueue's own headers, which tasks do not see."""

TIMEOUTS_HEADER: Final = "nbq:limits"
"""``<time-out>|<deadline>``, in (Unix) milliseconds; 0: none."""


def seen_headers(headers: Mapping[str, str]) -> bytes:
    """The headers that a task sees, those of its owner, as JSON."""
    seen = {name: text for name, text in headers.items() if not name.startswith(OWN_HEADERS)}
    return json.dumps(seen).encode()


def timeouts_text(timeout_ms: int, deadline_ms: int) -> str:
    return f"{timeout_ms}|{deadline_ms}"


def read_timeouts(headers: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the exact time-out and deadline in a message's headers.

    None if there are none, or none that make sense.
    """
    timeout, bar, deadline = headers.get(TIMEOUTS_HEADER, "").partition("|")
    found = whole_number(timeout, 0), whole_number(deadline, 0)
    if not bar or found[0] is None or found[1] is None:
        return None
    return found[0], found[1]


def exact(ms: int, seconds: int) -> float | None:
    """Return ``ms`` in seconds if ``seconds`` is its rounded value.

    None otherwise: then the time was changed.
    """
    return ms / 1000 if ms > 0 and -(-ms // 1000) == seconds else None
