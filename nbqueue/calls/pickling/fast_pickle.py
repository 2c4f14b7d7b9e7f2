"""Short pickles of plain values, without parts that loading does not need.

A pickle of a few numbers is mostly overhead: 9 bytes for the frame, and memo marks, of which the
last are never used. It is stored once for each task.
"""

from __future__ import annotations

import pickle
from typing import Any, Final

_dumps = pickle.dumps

_LARGE: Final = 4_096
"""Larger pickles are not shortened: copying them costs more than it saves."""

_FRAME: Final = 0x95
_GLOBAL: Final = 0x93  # a class or function by name: the protocol decides how it is found
_HEAD: Final = 11  # protocol, 2 bytes; frame with its length, 9 bytes
# The pickle of a non-empty tuple ends with a memo mark and the end mark.
_NO_NAMES: Final = b"}\x86."  # an empty dict, the tuple of both, the end mark


def dump_plain_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Pickle ``(args, kwargs)`` if both hold plain values only."""
    is_bare = args and not kwargs
    data = _dumps(args if is_bare else (args, kwargs), 5)
    if len(data) < _LARGE and data[2] == _FRAME and _GLOBAL not in data:
        return data[_HEAD:-2] + (_NO_NAMES if is_bare else b".")
    return _dumps((args, kwargs), 5) if is_bare else data


def dump_plain_value(value: Any) -> bytes:
    """Pickle a plain value."""
    data = _dumps(value, 5)
    if _HEAD < len(data) < _LARGE and data[2] == _FRAME and _GLOBAL not in data:
        return data[_HEAD:]
    return data
