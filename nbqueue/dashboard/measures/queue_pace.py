"""`QueuePace`: how many tasks of a queue end per step of time."""

from __future__ import annotations

from collections import deque

STEP_SECONDS = 2.0
_STEPS = 30


class QueuePace:
    """Tasks that ended, and that failed, in each of the last steps of time."""

    def __init__(self) -> None:
        self.done: deque[int] = deque(maxlen=_STEPS)
        self.failed: deque[int] = deque(maxlen=_STEPS)
        self.per_second = 0.0
        self._last: tuple[float, int, int] | None = None

    def add(self, now: float, processed: int, failed: int) -> None:
        """Note a queue's total counts at a time in seconds."""
        if self._last is None:
            self._last = (now, processed, failed)
            return
        at, processed_before, failed_before = self._last
        if now - at < STEP_SECONDS:
            return
        self.done.append(max(0, processed - processed_before))
        self.failed.append(max(0, failed - failed_before))
        self.per_second = max(0, processed - processed_before) / (now - at)
        self._last = (now, processed, failed)
