"""End attempts at their time-out or deadline."""

from __future__ import annotations

from collections.abc import Callable

from nbqueue.runtime.reactor import Reactor, Timer
from nbqueue.worker.tasks.attempt import Attempt


class Timeouts:
    """Timers of attempts; ``on_end(attempt)`` is called when one expires."""

    def __init__(self, reactor: Reactor, on_end: Callable[[Attempt], None]) -> None:
        self._reactor = reactor
        self._on_end = on_end
        self._timers: dict[int, Timer] = {}

    def set(self, attempt: Attempt, seconds: float) -> None:
        """Have an attempt end after ``seconds``. Replaces an earlier timer."""
        self.cancel(attempt)
        self._timers[attempt.number] = self._reactor.after(
            max(0.0, seconds), lambda: self._on_end(attempt)
        )

    def cancel(self, attempt: Attempt) -> None:
        """Cancel the timer of an attempt, if it has one."""
        timer = self._timers.pop(attempt.number, None) if self._timers else None
        if timer is not None:
            timer.cancel()
