"""Objects that are known by identity, such as sentinels: each process has one of them.

An object gets a key when it is first pickled, and the key travels with it. A process that loads the
key again, from another pickle or on the way back, finds the object that it has already.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

_MOST = 16_384

_lock = threading.RLock()
_by_key: dict[str, Any] = {}
_keys: dict[int, str] = {}
_own: set[str] = set()


def key_of(obj: object) -> str:
    """Return the key of ``obj``; a new one if it has none. Keeps ``obj`` alive."""
    with _lock:
        return _keys.get(id(obj)) or new_key(obj)


def new_key(obj: object) -> str:
    """Give ``obj`` another key, because it changed. The earlier ones still lead to it."""
    with _lock:
        key = uuid.uuid4().hex
        _own.add(key)
        _keep(key, obj)
        return key


def is_known(obj: object) -> bool:
    """Say whether ``obj`` has a key."""
    return id(obj) in _keys


def find(key: str, make: Callable[[], Any]) -> Any:
    """Return the object of ``key``; the first time what ``make`` returns."""
    with _lock:
        if key not in _by_key:
            _keep(key, make())
        return _by_key[key]


def is_own(obj: object) -> bool:
    """Say whether ``obj`` was first pickled in this process, and did not come from another."""
    with _lock:
        return _keys.get(id(obj)) in _own


def _keep(key: str, obj: object) -> None:
    _by_key[key] = obj
    _keys[id(obj)] = key
    while len(_by_key) > _MOST:
        oldest = next(iter(_by_key))
        forgotten = _by_key.pop(oldest)
        _own.discard(oldest)
        if _keys.get(id(forgotten)) == oldest:
            del _keys[id(forgotten)]
