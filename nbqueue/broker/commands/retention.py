"""Limits, in number and time, for events, attempts, counters and the archive."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Final

EVENT_CAP: Final = 10_000
ATTEMPT_CAP: Final = 100_000
ARCHIVE_CAP: Final = 10_000
ARCHIVE_DAYS: Final = 90
COUNTER_SECONDS: Final = 90 * 86_400
"""Seconds after which the counters of a day expire."""

DAY_MS: Final = 86_400_000


def utc_day(now_ms: int) -> date:
    """The day in UTC of a time in Unix milliseconds."""
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=now_ms)).date()


def archive_oldest(now_ms: int, days: float = ARCHIVE_DAYS) -> int:
    """Return the oldest time in the archive, in Unix seconds.

    A queue may have a setting of its own instead.
    """
    return now_ms // 1000 - int(days * 86_400)
