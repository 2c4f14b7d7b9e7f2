"""When runs must end."""

from __future__ import annotations

from collections.abc import Callable

from nbqueue.runtime.reactor import Reactor, Timer
from nbqueue.worker.tasks.attempt import Attempt


class Timeouts:
    """One timer for each run that has a limit; ``on_end(run)`` when its time is up."""

    def __init__(self, reactor: Reactor, on_end: Callable[[Attempt], None]) -> None:
        self._reactor = reactor
        self._on_end = on_end
        self._timers: dict[int, Timer] = {}

    def set(self, run: Attempt, seconds: float) -> None:
        """It ends in so many seconds, whatever was set before."""
        self.cancel(run)
        self._timers[run.number] = self._reactor.after(max(0.0, seconds), lambda: self._on_end(run))

    def cancel(self, run: Attempt) -> None:
        """It has ended, or has no limit for now."""
        timer = self._timers.pop(run.number, None) if self._timers else None
        if timer is not None:
            timer.cancel()
