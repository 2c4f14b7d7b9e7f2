"""Locks for forked child processes, where the parent's may never be released.

Only the thread that forks exists in the child. A lock that another thread held at that moment stays
locked there forever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any


def in_children(renew: Callable[[], object]) -> None:
    """Call ``renew`` in each child process that is forked from now on."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)


class InheritedLock:
    """A lock that calls ``use`` before it is acquired; for a `threading.Condition`.

    It replaces a lock of the parent, in an object that the child may never use: the resources that
    it needs there are started on first use.
    """

    def __init__(self, use: Callable[[], object]) -> None:
        self._lock = threading.RLock()
        self._use = use

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self._use()
        return self._lock.acquire(blocking, timeout)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)
