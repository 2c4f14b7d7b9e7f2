"""The time on the store's clock, so that hosts with wrong clocks agree.

Lua scripts receive the time as an argument, which comes from here. Connections measure the offset
between this host's clock and the store's, and repeat that from time to time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial

_DRIFT = 1e-4
"""The assumed drift between two clocks, in seconds per second."""

_STEADY = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
"""A clock that also counts while the machine sleeps, unlike Python's monotonic clock."""

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


steady_time: Callable[[], float] = (
    time.monotonic if _STEADY is None else partial(time.clock_gettime, _STEADY)
)
"""Return monotonic seconds that include the sleep of the machine."""


class Clock:
    """The store's time: this host's monotonic clock plus a measured offset.

    Before the first measurement it is this host's own time. Between two measurements it never
    jumps, even when the host's wall clock does.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = steady_time,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._monotonic = monotonic
        self._base = wall() - monotonic()
        self._error = math.inf
        self._measured_at = -math.inf

    def measured(self, sent_at: float, received_at: float, store_time: float) -> None:
        """Use one exchange with the store to measure the offset.

        ``sent_at`` and ``received_at`` are times of `steady_time` in seconds; ``store_time`` is the
        Unix time in seconds that the store replied. The reply was made at an unknown moment in
        between, so a slow exchange is inaccurate. It is used only if it is more accurate than the
        last measurement, whose accuracy degrades as the clocks drift.
        """
        error = (received_at - sent_at) / 2
        if error <= self._error + _DRIFT * (received_at - self._measured_at):
            self._base = store_time - (sent_at + received_at) / 2
            self._error, self._measured_at = error, received_at

    def restart(self) -> None:
        """Let the next measurement count in any case: it may be of another server's clock.

        Until then the time continues as before.
        """
        self._error, self._measured_at = math.inf, -math.inf

    def age(self) -> float:
        """Seconds since the last measurement that was used."""
        return self._monotonic() - self._measured_at

    def now_ms(self) -> int:
        """Unix milliseconds on the store's clock."""
        return int((self._base + self._monotonic()) * 1000)

    def to_steady(self, unix_ms: int) -> float:
        """Return the `steady_time` at which the store's clock shows ``unix_ms``."""
        return unix_ms / 1000 - self._base

    def now(self) -> float:
        """Unix seconds on the store's clock."""
        return self._base + self._monotonic()


def from_ms(unix_ms: int) -> datetime:
    """Convert Unix milliseconds to a datetime in UTC."""
    return EPOCH + timedelta(milliseconds=unix_ms)


def to_ms(moment: datetime) -> int:
    """Convert a timezone-aware datetime to Unix milliseconds, rounded to the nearest."""
    return round((moment - EPOCH) / timedelta(milliseconds=1))


def to_ms_up(moment: datetime) -> int:
    """Convert a timezone-aware datetime to Unix milliseconds, rounded up.

    A task that is due at this time never starts early.
    """
    return -((EPOCH - moment) // timedelta(milliseconds=1))
