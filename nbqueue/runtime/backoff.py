"""Pauses between attempts to reconnect, and logging of repeated faults."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

LOG_AGAIN_SECONDS = 60.0
"""The interval between log lines about a lasting fault, in seconds."""

_MOST_BEGINNINGS = 10
_MOST_KEYS = 256

_random = random.Random()  # a separate generator: the user's seeds stay unaffected


class Backoff:
    """Pauses that double up to a limit, each shortened at random by up to half.

    The random part keeps many clients of one server from reconnecting at once.
    """

    def __init__(self, first: float = 0.05, longest: float = 5.0) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def pause(self) -> float:
        """Return the pause before the next attempt, in seconds."""
        pause, self._next = self._next, min(self._next * 2, self._longest)
        return pause * _random.uniform(0.5, 1.0)

    @property
    def is_long(self) -> bool:
        """True if several attempts in a row have failed."""
        return self._next > self._longest / 10

    def reset(self) -> None:
        """Start again with the shortest pause, after a success."""
        self._next = self._first


@dataclass
class _Fault:
    is_on: bool = False
    is_logged: bool = False
    since: float = 0.0
    logged_at: float = 0.0
    suppressed: int = 0
    beginnings: deque[float] = field(default_factory=deque)


class FaultLog:
    """Logs a fault at its start, once a minute, and at its end.

    Faults are identified by a key. One that begins and ends repeatedly is logged at most ten times
    a minute.
    """

    def __init__(self, log: logging.Logger, now: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._now = now
        self._faults: dict[Hashable, _Fault] = {}

    def occurred(
        self, key: Hashable, text: str, *args: object, level: int = logging.WARNING
    ) -> None:
        """Log ``text``, unless ``key`` was logged in the last minute."""
        now = self._now()
        fault = self._fault(key)
        if not fault.is_on:
            fault.is_on, fault.is_logged, fault.since = True, False, now
            while fault.beginnings and now - fault.beginnings[0] > LOG_AGAIN_SECONDS:
                fault.beginnings.popleft()
            is_due = len(fault.beginnings) < _MOST_BEGINNINGS
            if is_due:
                fault.beginnings.append(now)
        else:
            is_due = now - fault.logged_at >= LOG_AGAIN_SECONDS
        if not is_due:
            fault.suppressed += 1
            return
        if fault.suppressed:
            text += f" (and {fault.suppressed} times since this was last logged)"
        fault.is_logged, fault.logged_at, fault.suppressed = True, now, 0
        self._log.log(level, text, *args)

    def is_on(self, key: Hashable) -> bool:
        """Return whether the fault with this key lasts."""
        fault = self._faults.get(key)
        return fault is not None and fault.is_on

    def over(
        self, key: Hashable, text: str, *args: object, level: int = logging.INFO
    ) -> float | None:
        """Log ``text`` if the fault of ``key`` was logged and has lasted since.

        Returns its duration in seconds, or None if there was none.
        """
        fault = self._faults.get(key)
        if fault is None or not fault.is_on:
            return None
        fault.is_on = False
        if fault.is_logged:
            fault.suppressed = 0
            self._log.log(level, text, *args)
        return self._now() - fault.since

    def _fault(self, key: Hashable) -> _Fault:
        fault = self._faults.get(key)
        if fault is None:
            if len(self._faults) >= _MOST_KEYS:
                del self._faults[next(iter(self._faults))]
            fault = self._faults[key] = _Fault()
        return fault
