"""What the thread of a listener does when it meets an error: pause, say so, give up."""

from __future__ import annotations

import logging
import time

from nbqueue.errors import NoEmbeddedServer, StoreDenied, StoreUnsuitable

_REFUSED_SECONDS = 30.0
_MOST_FAULTS = 5
_FAULT_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
# What trying again will not mend soon: a changed password, another server at the address.
_REFUSALS = (StoreDenied, StoreUnsuitable, NoEmbeddedServer)

_log = logging.getLogger("nbqueue.client")


class Trouble:
    """What to do when the thread of a listener meets an error: pause, say so, give up."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._pause = _FIRST_PAUSE
        self._refused_since: float | None = None
        self._faults: list[float] = []
        self._is_told = False

    def is_over(self) -> None:
        """All is well."""
        self._pause, self._refused_since = _FIRST_PAUSE, None
        if self._is_told:
            self._is_told = False
            _log.warning("the store %s is back", self._place)

    def away(self, error: Exception) -> bool:
        """The store is away, or refuses. True if it has refused for too long to go on."""
        if self._pause > _LONGEST_PAUSE / 4 and not self._is_told:
            self._is_told = True
            _log.warning("%s; waiting for it, and for tasks, goes on", error)
        if not isinstance(error, _REFUSALS):
            self._refused_since = None
            return False
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        return now - self._refused_since > _REFUSED_SECONDS

    def fault(self) -> bool:
        """Our code failed. True if it did so too often to go on."""
        now = time.monotonic()
        self._faults = [at for at in self._faults if now - at < _FAULT_SECONDS] + [now]
        return len(self._faults) >= _MOST_FAULTS

    def pause(self) -> float:
        """How long to pause before the next try, in seconds."""
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE)
        return pause
