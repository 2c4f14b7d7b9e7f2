"""Ids of workers, which show other workers whether the process has ended.

An id is ``host:pid:rest``. The rest has 8 hexadecimal digits for the *place*, in which process ids
are unique: one boot of one machine, one namespace of process ids, and one of time. 8 digits follow
for when the process started, as process ids are reused, and 8 random ones. Two containers may have
equal host names and process ids; their places differ.
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
    """Return a new id for a worker in this process."""
    place, started = _place(os.getpid()), _started(os.getpid())
    if not place or started is None:
        # Without Linux, or a /proc of this namespace, others have to wait until its leases expire.
        return f"{host}:{os.getpid()}:{uuid.uuid4().hex[:24]}"
    return f"{host}:{os.getpid()}:{place}{started}{uuid.uuid4().hex[:8]}"


def is_neighbour(worker_id: str) -> bool:
    """Return whether `is_gone` can detect the end of this worker's process."""
    name = read_worker_id(worker_id)
    place = _place(os.getpid())
    if name is None or not place:
        return False
    return len(name.rest) == 24 and name.rest[:8] == place


def is_gone(worker_id: str) -> bool:
    """Return whether the worker's process has certainly ended.

    False if that is unknown.
    """
    name = read_worker_id(worker_id)
    if name is None or not is_neighbour(worker_id):
        return False
    try:
        os.kill(name.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # of another user: this process, or a later one with its number
    started = _started(name.pid)
    # A process that cannot be read may live: /proc may hide those of other users.
    return started is not None and started != name.rest[8:16]


@cache
def _place(pid: int) -> str:
    """Return the place of this process, ``pid``; empty if it is unknown."""
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
    """Return the start of a process in 8 digits.

    Empty if it has ended, None if that is unknown.
    """
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The program's name, in parentheses, may contain parentheses and spaces.
    words = stat.rpartition(")")[2].split()
    if len(words) < 20:
        return None
    return "" if words[0] in _GONE else f"{int(words[19]) & 0xFFFF_FFFF:08x}"
