"""Pauses of the listener's thread after errors."""

from __future__ import annotations

import logging
import time

from nbqueue.errors import NoEmbeddedServer
from nbqueue.runtime.backoff import Backoff, FaultLog

_NO_SERVER_SECONDS = 30.0
_MOST_FAULTS = 5
_FAULT_SECONDS = 60.0
_FIRST_PAUSE = 0.05

_log = logging.getLogger("nbqueue.client")


class ErrorPauses:
    """Decides how long to pause after an error, and when to give up.

    A store that is away or refuses is waited for without end, as it may come back with all tasks.
    Only an embedded store without a program to start is given up, after half a minute.
    """

    def __init__(self, place: str, longest: float = 5.0, quiet_seconds: float = 0.0) -> None:
        """``longest`` is the longest pause. Outages of ``quiet_seconds`` are not logged."""
        self._place = place
        self._quiet_seconds = quiet_seconds
        self._backoff = Backoff(_FIRST_PAUSE, longest)
        self._away_since: float | None = None
        self._no_server_since: float | None = None
        self._faults: list[float] = []
        self._fault_log = FaultLog(_log)

    def note_success(self) -> None:
        """Note that the store answers and serves."""
        self._backoff.reset()
        self._away_since = None
        self._no_server_since = None
        self._fault_log.over("away", "the store %s is back", self._place, level=logging.WARNING)

    def note_unreachable(self, error: Exception) -> bool:
        """Note that the store is away or refuses; return whether to give up."""
        now = time.monotonic()
        self._away_since = self._away_since or now
        if self._backoff.is_long and now - self._away_since >= self._quiet_seconds:
            self._fault_log.occurred("away", "%s; waiting for it, and for tasks, goes on", error)
        if not isinstance(error, NoEmbeddedServer):
            self._no_server_since = None
            return False
        self._no_server_since = self._no_server_since or now
        return now - self._no_server_since > _NO_SERVER_SECONDS

    def note_fault(self) -> bool:
        """Note a fault in nbqueue itself; return whether there were too many to continue."""
        now = time.monotonic()
        self._faults = [at for at in self._faults if now - at < _FAULT_SECONDS] + [now]
        return len(self._faults) >= _MOST_FAULTS

    def pause(self) -> float:
        """Return the number of seconds to pause before the next try."""
        return self._backoff.pause()
