"""Poll busily for a moment before a thread sleeps.

Putting a thread to sleep and waking it costs 20 to 60 µs, more on virtual machines, and the waking
process pays for much of that. Most replies of a store arrive sooner. So a thread that expects
something soon checks several times before it sleeps, and yields its CPU between two checks, so that
it takes no time from the processes that it waits for.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any, Final

_LONGEST: Final = 0.0002
_MOST_SKIPPED: Final = 64
_FLAG: Final = getattr(socket, "MSG_DONTWAIT", 0)

offer_cpu: Final = getattr(os, "sched_yield", lambda: None)
"""Let other threads run first."""


class BusyPoll:
    """Decides whether a wait polls busily, by the success of earlier ones.

    After a failure the next waits sleep at once: 1 of them, then 2, 4, up to 64.
    """

    __slots__ = ("_penalty", "_skip", "longest_ns")

    def __init__(self, longest: float = _LONGEST) -> None:
        """``longest``: the maximum time of polling per wait, in seconds."""
        self.longest_ns = int(longest * 1e9)
        self._skip = self._penalty = 0

    def begin(self) -> int:
        """Return the end of polling, by `time.monotonic_ns`; 0: do not poll."""
        if self._skip:
            self._skip -= 1
            return 0
        return time.monotonic_ns() + self.longest_ns

    def helped(self) -> None:
        """Record that polling succeeded."""
        self._penalty = 0

    def failed(self) -> None:
        """Record that polling failed."""
        self._penalty = min(self._penalty * 2 or 1, _MOST_SKIPPED)
        self._skip = self._penalty

    def receive(self, connection: Any, size: int) -> bytes | None:
        """Poll a plain socket; return received bytes, or None to sleep.

        Raises `OSError` like ``recv``.
        """
        until = self.begin()
        while until:
            try:
                data: bytes = connection.recv(size, _FLAG)
            except BlockingIOError:
                if time.monotonic_ns() > until:
                    self.failed()
                    return None
                offer_cpu()
                continue
            self.helped()
            return data
        return None


def limit_waits(connection: Any, seconds: float) -> bool:
    """Make a blocking socket time out with `BlockingIOError`, to poll it.

    Python's own time-outs need two system calls per operation. Returns False, and changes nothing,
    for a socket without this option: with TLS, or on another system.
    """
    if not _FLAG or hasattr(connection, "pending"):
        return False
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    return True
