"""A selector for the listener's thread that other threads can wake."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable

from nbqueue.client.channels.subscription import Subscription
from nbqueue.runtime.wakeup import Wakeup

# Neither takes a file descriptor of its own, nor fails for numbers above 1023 where there is poll.
# Nor does a child process share it with its parent, as it would share an epoll.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)


class WakeableSelector:
    """Waits for one subscription and for `wake`, which any thread may call.

    Everything else is for the thread that waits.
    """

    def __init__(self) -> None:
        self._wakeup: Wakeup | None = None
        self._selector = _Selector()
        self._subscription: Subscription | None = None
        self._events = 0

    def open(self) -> None:
        """Make `wait` possible."""
        self._wakeup = Wakeup()
        self._selector = _Selector()
        self._selector.register(self._wakeup, selectors.EVENT_READ, self)

    def wake(self) -> None:
        """End the current wait, or the next one. Does nothing while it is closed."""
        wakeup = self._wakeup
        if wakeup is not None:
            wakeup.wake()

    def wait(self, subscription: Subscription | None, timeout: float | None) -> tuple[bool, bool]:
        """Wait for `wake` or for ``subscription``; return which of the two happened."""
        self._watch(subscription)
        ready = [key.data for key, _ in self._selector.select(timeout)]
        is_woken = self in ready
        if is_woken and self._wakeup is not None:
            self._wakeup.drain()
        return is_woken, subscription in ready

    def sleep(self, seconds: float | None, is_over: Callable[[], bool]) -> None:
        """Pause for a time, or with None until `wake`.

        ``is_over`` ends the pause early. It is asked each time when the thread is woken.
        """
        until = None if seconds is None else time.monotonic() + seconds
        while not is_over():
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return
            is_woken, _ = self.wait(None, left)
            if is_woken and until is None:
                return

    def _watch(self, subscription: Subscription | None) -> None:
        events = 0
        if subscription is not None:
            events = selectors.EVENT_READ | (
                selectors.EVENT_WRITE if subscription.wants_write else 0
            )
        if subscription is self._subscription and events == self._events:
            return
        if self._subscription is not None:
            self._selector.unregister(self._subscription)  # also if it was closed
        if subscription is not None:
            self._selector.register(subscription, events, subscription)
        self._subscription, self._events = subscription, events

    def close(self) -> None:
        """Close the file descriptors."""
        wakeup, self._wakeup = self._wakeup, None
        self._subscription = None
        self._selector.close()
        if wakeup is not None:
            wakeup.close()
