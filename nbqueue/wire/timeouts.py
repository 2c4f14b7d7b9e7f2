"""Exact limits of a message: its time-out and its deadline to the millisecond.

Asynq's fields hold whole seconds, rounded up so that nothing ends early. What is exact travels in
a header, which any program may lose: then the whole seconds hold. Calls have it in their payload.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from nbqueue.wire.decoding import whole_number

OWN_HEADERS: Final = "nbq:"
"""How the names of our own headers begin. Tasks do not see them."""

LIMITS_HEADER: Final = "nbq:limits"
"""``<time-out>|<deadline>``, in (Unix) milliseconds; 0: none."""


def seen_headers(headers: Mapping[str, str]) -> bytes:
    """The headers that a task sees, those of its owner, as JSON."""
    seen = {name: text for name, text in headers.items() if not name.startswith(OWN_HEADERS)}
    return json.dumps(seen).encode()


def limits_text(timeout_ms: int, deadline_ms: int) -> str:
    return f"{timeout_ms}|{deadline_ms}"


def read_limits(headers: Mapping[str, str]) -> tuple[int, int] | None:
    """The exact time-out and deadline that a message has; None if it has none that make sense."""
    timeout, bar, deadline = headers.get(LIMITS_HEADER, "").partition("|")
    limits = whole_number(timeout, 0), whole_number(deadline, 0)
    if not bar or limits[0] is None or limits[1] is None:
        return None
    return limits[0], limits[1]


def exact(ms: int, seconds: int) -> float | None:
    """``ms`` as seconds, if ``seconds`` is what it is rounded up; else somebody changed that."""
    return ms / 1000 if ms > 0 and -(-ms // 1000) == seconds else None
