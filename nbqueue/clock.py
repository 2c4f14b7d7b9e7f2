"""What time it is on the store's clock, so that hosts with wrong clocks agree.

Scripts get the time as an argument; this module is where it comes from. The offset between this
host's clock and the store's is measured by whoever connects, and again now and then.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial

_DRIFT = 1e-4
"""By how much two clocks may part, in seconds a second."""

_STEADY = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
"""The clock that goes on while the machine sleeps; Python's own stands still meanwhile."""

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


steady_time: Callable[[], float] = (
    time.monotonic if _STEADY is None else partial(time.clock_gettime, _STEADY)
)
"""Seconds that no change of this host's wall clock, and no sleep of the machine, disturbs."""


class Clock:
    """The store's time, from this host's monotonic clock and a measured offset.

    Before the first measurement it is this host's own time. Between two measurements it never
    jumps, whatever happens to the host's wall clock.
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
        """Set by one exchange: asked and answered at these times of `steady_time`, in seconds, the
        store said that it was ``store_time`` (Unix seconds).

        The answer was given some time in between, so a slow exchange says little. It counts only
        if it says more than the last one that did, which clocks drift away from.
        """
        error = (received_at - sent_at) / 2
        if error <= self._error + _DRIFT * (received_at - self._measured_at):
            self._base = store_time - (sent_at + received_at) / 2
            self._error, self._measured_at = error, received_at

    def age(self) -> float:
        """Seconds since the last measurement that counted."""
        return self._monotonic() - self._measured_at

    def now_ms(self) -> int:
        """Unix milliseconds on the store's clock."""
        return int((self._base + self._monotonic()) * 1000)

    def to_steady(self, unix_ms: int) -> float:
        """The time of `steady_time` at which it is ``unix_ms`` for the store."""
        return unix_ms / 1000 - self._base

    def now(self) -> float:
        """Unix seconds on the store's clock."""
        return self._base + self._monotonic()

    def now_datetime(self) -> datetime:
        """The store's time, in UTC."""
        return from_ms(self.now_ms())


def from_ms(unix_ms: int) -> datetime:
    """Unix milliseconds as a datetime in UTC."""
    return EPOCH + timedelta(milliseconds=unix_ms)


def to_ms(moment: datetime) -> int:
    """A timezone-aware datetime as Unix milliseconds."""
    return round((moment - EPOCH) / timedelta(milliseconds=1))


def to_ms_up(moment: datetime) -> int:
    """The same, the next whole one: what is due then must not begin before."""
    return -((EPOCH - moment) // timedelta(milliseconds=1))
