"""Waiting awake, for a moment, for what comes within microseconds.

To put a thread to sleep and to wake it costs 20 to 60 µs, more on virtual machines, and a good part
of that is paid by whoever wakes it. An answer of the store is mostly there sooner. So whoever
waits for something that comes at once looks a few times more before it sleeps; between two looks
it offers its CPU to others, so that it takes none from those it waits for.
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
"""Let others run first, if any wants to."""


class BusyPoll:
    """Decides for one kind of wait whether to stay awake, by whether that helped before.

    Where it did not, the next waits sleep at once: 1 of them, then 2, 4, up to 64.
    """

    __slots__ = ("_penalty", "_skip", "longest_ns")

    def __init__(self, longest: float = _LONGEST) -> None:
        """``longest``: seconds that one wait may stay awake."""
        self.longest_ns = int(longest * 1e9)
        self._skip = self._penalty = 0

    def begin(self) -> int:
        """Until when to stay awake, by `time.monotonic_ns`; 0: not at all."""
        if self._skip:
            self._skip -= 1
            return 0
        return time.monotonic_ns() + self.longest_ns

    def helped(self) -> None:
        """What was waited for came in time."""
        self._penalty = 0

    def failed(self) -> None:
        """It did not."""
        self._penalty = min(self._penalty * 2 or 1, _MOST_SKIPPED)
        self._skip = self._penalty

    def receive(self, connection: Any, size: int) -> bytes | None:
        """What comes on a plain socket, awake; None if it is time to sleep.

        Raises `OSError` as ``recv`` does.
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
    """Have a blocking socket give up after so long, with `BlockingIOError`, and be fit to spin.

    Python's own time-outs ask the system twice for everything. False, with nothing done, for a
    socket that can only have those: one of TLS, or another system.
    """
    if not _FLAG or hasattr(connection, "pending"):
        return False
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    return True
