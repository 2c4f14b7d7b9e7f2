"""Pauses between attempts of one call, until its time is up."""

from __future__ import annotations

import threading
import time


class CallDeadline:
    """Pauses that double up to a second, for at most ``seconds`` in all."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._pause = 0.02
        self._never = threading.Event()

    def wait(self) -> bool:
        """Pause, and return True; return False at once when the time is up."""
        left = self._until - time.monotonic()
        if left <= 0:
            return False
        self._never.wait(min(self._pause, left))
        self._pause = min(self._pause * 2, 1.0)
        return True
