"""A pair of sockets that wakes a thread which sleeps in a selector."""

from __future__ import annotations

import socket


class Wakeup:
    """Ready to be read, for a selector, from the first `ring` until `silence`.

    `ring` is for any thread, also after `close`; everything else for the one that sleeps.
    """

    def __init__(self) -> None:
        self._ear, self._rope = socket.socketpair()
        for end in (self._ear, self._rope):
            end.setblocking(False)

    def fileno(self) -> int:
        """What to wait for."""
        return self._ear.fileno()

    def rope(self) -> int:
        """The file that rings it if anything is written to it: for `signal.set_wakeup_fd`."""
        return self._rope.fileno()

    def ring(self) -> None:
        """Wake who sleeps, or let nobody fall asleep until `silence`."""
        try:
            self._rope.send(b"\0")
        except OSError:
            pass  # full: it rings as it is; closed: nobody sleeps any more

    def silence(self) -> None:
        """Before looking at what it may have rung for; what rings later is not missed then."""
        try:
            while self._ear.recv(4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._ear.close()
        self._rope.close()
