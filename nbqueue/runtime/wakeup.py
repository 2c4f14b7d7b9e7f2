"""Wake a thread that waits in a selector."""

from __future__ import annotations

import socket


class Wakeup:
    """A socket pair that is readable from the first `wake` until `drain`.

    Any thread may call `wake`, even after `close`; all other methods are for the waiting thread.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)

    def fileno(self) -> int:
        """Return the file descriptor to wait for."""
        return self._reader.fileno()

    def signal_fileno(self) -> int:
        """Return a file descriptor that wakes on any write, for `signal.set_wakeup_fd`."""
        return self._writer.fileno()

    def wake(self) -> None:
        """Wake the thread, or keep it from waiting until `drain`."""
        try:
            self._writer.send(b"\0")
        except OSError:
            pass  # full: already awake; closed: no thread waits any more

    def drain(self) -> None:
        """Make it unreadable again.

        Call it before checking for work, so that none is missed.
        """
        try:
            while self._reader.recv(4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
