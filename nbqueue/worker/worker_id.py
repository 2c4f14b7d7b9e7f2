"""A worker's id, from which its neighbours can tell that its process is gone.

``host:pid:rest``. The rest begins with 8 hexadecimal digits for the *place*, which is where process
ids mean the same: one boot of one machine, one namespace of process ids, one of time. Then come 8
for when the process started, since ids are used again, and 8 by chance. Two containers may well
have equal host names and process ids; their places differ.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from functools import cache
from pathlib import Path

from nbqueue.wire.server_info import read_worker_id

_PROC = Path("/proc")
_GONE = frozenset("ZXx")


def new_worker_id(host: str) -> str:
    """The id of a worker in this process."""
    place, started = _place(os.getpid()), _started(os.getpid())
    if not place or started is None:
        # Not Linux, or no /proc of our own: nobody can tell. Its leases run out.
        return f"{host}:{os.getpid()}:{uuid.uuid4().hex[:24]}"
    return f"{host}:{os.getpid()}:{place}{started}{uuid.uuid4().hex[:8]}"


def is_neighbour(worker_id: str) -> bool:
    """Whether it can be told here if the worker's process has ended."""
    name = read_worker_id(worker_id)
    place = _place(os.getpid())
    if name is None or not place:
        return False
    return len(name.rest) == 24 and name.rest[:8] == place


def is_gone(worker_id: str) -> bool:
    """Whether it is certain that the worker's process has ended. False if that cannot be told."""
    name = read_worker_id(worker_id)
    if name is None or not is_neighbour(worker_id):
        return False
    try:
        os.kill(name.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # somebody else's: it lives, or another does under its number
    started = _started(name.pid)
    # What cannot be read may live: /proc need not show the processes of other users.
    return started is not None and started != name.rest[8:16]


@cache
def _place(pid: int) -> str:
    """Where this process, ``pid``, runs; empty if it is not known."""
    try:
        if os.readlink(_PROC / "self") != str(pid):
            return ""  # the /proc of another namespace
        boot = (_PROC / "sys/kernel/random/boot_id").read_text()
        spaces = [os.readlink(_PROC / "self/ns/pid")]
        if (_PROC / "self/ns/time").is_symlink():
            spaces.append(os.readlink(_PROC / "self/ns/time"))
    except OSError:
        return ""
    return hashlib.sha256("\n".join((boot, *spaces)).encode()).hexdigest()[:8]


def _started(pid: int) -> str | None:
    """When a process started, in 8 digits; empty if it has ended; None if it cannot be told."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name of the program, in parentheses, may contain anything.
    words = stat.rpartition(")")[2].split()
    if len(words) < 20:
        return None
    return "" if words[0] in _GONE else f"{int(words[19]) & 0xFFFF_FFFF:08x}"
