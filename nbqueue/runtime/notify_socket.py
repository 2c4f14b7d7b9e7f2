"""Report the state of this process to its service manager, as systemd's ``sd_notify`` does."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

_SOCKET = "NOTIFY_SOCKET"
_WATCHDOG = "WATCHDOG_USEC"
_WATCHDOG_PID = "WATCHDOG_PID"
_SEND_SECONDS = 0.1


def without_notify_socket(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child process, which must not report for this one."""
    ours = (_SOCKET, _WATCHDOG, _WATCHDOG_PID)
    return {name: value for name, value in environ.items() if name not in ours}


class NotifySocket:
    """Sends states to the service manager that ``environ`` names, if there is one.

    ``warn(text)`` is called when it cannot be reached, once until it can be again.

    ``is_there``: True if there is one. ``watchdog_seconds``: the longest pause between two signs
    of life before it kills this process; 0: it does not watch.
    """

    def __init__(self, environ: Mapping[str, str], warn: Callable[[str], object]) -> None:
        self._warn = warn
        address = environ.get(_SOCKET, "")
        # "@" stands for the first byte of an abstract address.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.is_there = address[:1] in ("/", "@")
        if address and not self.is_there:
            warn(f"{_SOCKET}={address!r} is no Unix socket: nothing is reported there")
        self.watchdog_seconds = _watchdog_seconds(environ) if self.is_there else 0.0
        self._has_failed = False

    def send(self, *states: str) -> None:
        """Send lines such as ``READY=1`` in one datagram.

        Never raises, and blocks for 0.1 s at most.
        """
        if not self.is_there:
            return
        try:
            # A connection would not survive a restart of the service manager.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_SECONDS)
                sender.sendto("\n".join(states).encode(), self._address)
            self._has_failed = False
        except (OSError, ValueError) as error:
            if not self._has_failed:
                self._has_failed = True
                self._warn(f"service manager is not reachable error={error}")


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    pid, micros = environ.get(_WATCHDOG_PID, ""), environ.get(_WATCHDOG, "")
    is_ours = not pid or pid == str(os.getpid())
    is_number = micros.isascii() and micros.isdigit() and len(micros) < 19
    return int(micros) / 1e6 if is_ours and is_number else 0.0
