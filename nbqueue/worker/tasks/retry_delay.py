"""When a failed task is tried again. Pure."""

from __future__ import annotations

import random

FIRST_CALL_DELAY = 1.0
LONGEST_CALL_DELAY = 600.0


def call_delay(retried: int, chance: float | None = None) -> float:
    """Seconds before a call is tried again after ``retried`` retries.

    1 s, doubling up to 10 minutes, less up to half of it by chance, so that tasks that failed
    together do not come back together.
    """
    full = min(FIRST_CALL_DELAY * 2.0 ** min(retried, 30), LONGEST_CALL_DELAY)
    return full * (1.0 - 0.5 * (random.random() if chance is None else chance))


def message_delay(retried: int, chance: float | None = None) -> float:
    """Seconds before a message is tried again: Asynq's formula, n⁴ + 15 + r (n + 1), r in 0..29."""
    r = int((random.random() if chance is None else chance) * 30)
    return float(retried**4 + 15 + r * (retried + 1))
