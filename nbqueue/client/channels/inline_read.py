"""Reading the end of a task in the thread that waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nbqueue.client.channels.listener_connection import ListenerConnection
from nbqueue.client.futures.waits import DeferredInterrupt
from nbqueue.errors import StoreError
from nbqueue.runtime.busy_poll import BusyPoll, offer_cpu
from nbqueue.transport.nonblocking import ConnectionLost

_LONGEST_SECONDS = 0.002
_PAUSE_SECONDS = 0.02


class InlineRead:
    """Lets a waiting thread read from the listener's connection for a moment.

    The end of a short task is known sooner than the store could wake the listener's thread, and
    that another one. The listener's thread pauses meanwhile, and for a moment after: the thread
    that waits for one task so mostly waits for the next one soon. Row C of the benchmarks pays for
    it.
    """

    def __init__(self, connection: ListenerConnection, wake: Callable[[], None]) -> None:
        """``wake`` has the listener's thread pause, or take over."""
        self._connection = connection
        self._wake = wake
        self.read_lock = threading.Lock()
        """Held by the thread that reads."""
        self.thread: threading.Thread | None = None
        """The thread that reads inline; None while none does."""
        self.is_listener_paused = False
        """Set by the listener's thread while it leaves the reading to others."""
        self._pause_until = 0.0
        self._was_interrupted = False
        self._busy_poll = BusyPoll(_LONGEST_SECONDS)

    def read_until(self, is_over: Callable[[], bool]) -> None:
        """Read without sleeping until ``is_over``.

        Returns after 2 ms at the latest, and at once if another thread does this already.
        """
        subscription = self._connection.subscription
        if subscription is None or self.thread is not None:
            return
        until = self._busy_poll.begin()
        if not until:
            return
        with DeferredInterrupt():
            if not self.read_lock.acquire(blocking=False):
                return
            try:
                self.thread = threading.current_thread()
                self._pause_until = time.monotonic() + _PAUSE_SECONDS
                if not self.is_listener_paused:
                    self._wake()
                while not is_over():
                    is_late = time.monotonic_ns() > until
                    if is_late or subscription is not self._connection.subscription:
                        self._busy_poll.failed()
                        break
                    subscription.read()
                    offer_cpu()
                else:
                    self._busy_poll.helped()
                    return
            except (ConnectionLost, StoreError, OSError):
                pass  # the listener's thread will meet this error, too
            except BaseException:
                # An exception from a signal can come anywhere, and a message may be lost: look for
                # it.
                self._was_interrupted = True
                raise
            finally:
                self.thread = None
                self.read_lock.release()
            # The listener's thread takes over.
            self._pause_until = 0.0
            self._wake()

    def pause_left(self) -> float:
        """Return for how many seconds the listener's thread leaves the reading to others."""
        return self._pause_until - time.monotonic()

    def take_interrupted(self) -> bool:
        """Return whether a thread was interrupted while it read, since the last call."""
        was_interrupted, self._was_interrupted = self._was_interrupted, False
        return was_interrupted
