"""Hearing the end of one task in the thread that waits for it, in place of the listener's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nbqueue.client.completion.subscription import Subscription
from nbqueue.client.futures.waits import DeferredInterrupt
from nbqueue.errors import StoreError
from nbqueue.runtime.busy_poll import BusyPoll, offer_cpu
from nbqueue.transport.nonblocking import ConnectionLost

_LEAD_SECONDS = 0.002
_PARKED_SECONDS = 0.02


class InlineRead:
    """Who reads from the listener's connection: its thread, or for a moment a thread that leads.

    The end of a short task comes sooner than one thread could be woken by the store, and another
    by that. The listener's thread is *parked* meanwhile, and for a moment after: who waits for one
    task so, mostly waits for the next one soon.
    """

    def __init__(
        self, link: Callable[[], Subscription | None], wake_thread: Callable[[], None]
    ) -> None:
        """``link``: the connection as it is now. ``wake_thread`` wakes the listener's thread."""
        self.reading = threading.Lock()
        """Held by who reads."""
        self._leader: threading.Thread | None = None
        self.is_parked = False
        """Set by the listener's thread while it waits for others to read."""
        self._link = link
        self._wake_thread = wake_thread
        self._led_until = 0.0
        self._is_doubtful = False
        self._spin = BusyPoll(_LEAD_SECONDS)

    def lead(self, is_over: Callable[[], bool]) -> None:
        """Read what comes, awake, until ``is_over``; not for long, and not if another does."""
        link = self._link()
        if link is None or self._leader is not None:
            return
        until = self._spin.begin()
        if not until:
            return
        with DeferredInterrupt():
            self._lead(link, is_over, until)

    def _lead(self, link: Subscription, is_over: Callable[[], bool], until: int) -> None:
        if not self.reading.acquire(blocking=False):
            return
        try:
            self._leader = threading.current_thread()
            self._led_until = time.monotonic() + _PARKED_SECONDS
            if not self.is_parked:
                self._wake_thread()
            while not is_over():
                if time.monotonic_ns() > until or link is not self._link():
                    self._spin.failed()
                    break
                link.read()
                offer_cpu()
            else:
                self._spin.helped()
                return
        except (ConnectionLost, StoreError, OSError):
            pass  # the thread will find the same
        except BaseException:
            # By another signal, say, anywhere: what came may be lost, and must be looked for.
            self._is_doubtful = True
            raise
        finally:
            self._leader = None
            self.reading.release()
        # The thread takes over.
        self._led_until = 0.0
        self._wake_thread()

    def is_this_thread(self) -> bool:
        """True in the thread that leads."""
        return threading.current_thread() is self._leader

    def parked_for(self) -> float:
        """For how many seconds its thread leaves the reading to others; not above 0: it reads."""
        return self._led_until - time.monotonic()

    def take_doubt(self) -> bool:
        """Whether a thread was interrupted while it read, since this was asked last."""
        was_doubtful, self._is_doubtful = self._is_doubtful, False
        return was_doubtful
