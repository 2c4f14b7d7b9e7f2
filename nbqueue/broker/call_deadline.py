"""How long a call goes on trying while the store is away."""

from __future__ import annotations

import threading
import time


class CallDeadline:
    """How long to go on trying while the store is away: pauses that double up to a second."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._pause = 0.02
        self._never = threading.Event()

    def wait(self) -> bool:
        """Pause. False, at once, when there is no time left."""
        left = self._until - time.monotonic()
        if left <= 0:
            return False
        self._never.wait(min(self._pause, left))
        self._pause = min(self._pause * 2, 1.0)
        return True
