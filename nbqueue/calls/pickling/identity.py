"""Keep one copy per process of objects compared by identity, such as sentinels.

An object gets a key when it is first pickled, and the key is sent with it. A process that loads a
known key, from another pickle or on the way back, uses the object that it already has.
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
    """Return the key of ``obj``, creating one if needed. Keeps ``obj`` alive."""
    with _lock:
        return _keys.get(id(obj)) or new_key(obj)


def new_key(obj: object) -> str:
    """Give a changed ``obj`` a new key. The earlier keys still find it."""
    with _lock:
        key = uuid.uuid4().hex
        _own.add(key)
        _keep(key, obj)
        return key


def is_known(obj: object) -> bool:
    """Return whether ``obj`` has a key."""
    return id(obj) in _keys


def find(key: str, make: Callable[[], Any]) -> Any:
    """Return the object with this key; ``make`` creates it on first use."""
    with _lock:
        if key not in _by_key:
            _keep(key, make())
        return _by_key[key]


def is_own(obj: object) -> bool:
    """Return whether ``obj`` was first pickled in this process."""
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
