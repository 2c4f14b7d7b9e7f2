"""What the listener's thread sleeps on: other threads wake it, and so does its connection."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable

from nbqueue.client.completion.subscription import Subscription
from nbqueue.runtime.wakeup import Wakeup

# Neither takes a file descriptor of its own, nor fails for numbers above 1023 where there is poll.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)


class WakeableSelector:
    """Only its owner calls `wait` and `close`; `ring` is for any thread."""

    def __init__(self) -> None:
        self._bell = Wakeup()
        self._selector = _Selector()
        self._selector.register(self._bell, selectors.EVENT_READ, self)
        self._link: Subscription | None = None
        self._events = 0

    def ring(self) -> None:
        """End the wait that is going on, or the next one."""
        self._bell.ring()

    def wait(self, link: Subscription | None, timeout: float | None) -> tuple[bool, bool]:
        """Wait until it rings or ``link`` is ready. Returns whether it rang, whether that is."""
        self._follow(link)
        ready = [key.data for key, _ in self._selector.select(timeout)]
        rang = self in ready
        if rang:
            self._bell.silence()
        return rang, link in ready

    def sleep(self, seconds: float | None, is_over: Callable[[], bool]) -> None:
        """Pause for so long; without ``seconds`` until it rings. No longer than until ``is_over``,
        which is asked each time it rings."""
        until = None if seconds is None else time.monotonic() + seconds
        while not is_over():
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return
            rang, _ = self.wait(None, left)
            if rang and until is None:
                return

    def _follow(self, link: Subscription | None) -> None:
        events = 0
        if link is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.wants_write else 0)
        if link is self._link and events == self._events:
            return
        if self._link is not None:
            self._selector.unregister(self._link)  # also if it was closed
        if link is not None:
            self._selector.register(link, events, link)
        self._link, self._events = link, events

    def close(self) -> None:
        self._selector.close()
        self._bell.close()
