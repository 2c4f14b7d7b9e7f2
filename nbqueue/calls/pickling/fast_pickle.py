"""Small pickles of plain values, without what their loader does not need.

A pickle of a few numbers is mostly frame: 9 bytes that say how long it is, and marks for values
that may be referred to again, of which the last never are. It lies in the store once for each task.
"""

from __future__ import annotations

import pickle
from typing import Any, Final

_dumps = pickle.dumps

_LARGE: Final = 4_096
"""Beyond that, a copy costs more than these bytes do."""

_FRAME: Final = 0x95
_GLOBAL: Final = 0x93  # a class or a function by its name: the protocol decides how it is found
_HEAD: Final = 11  # protocol, 2 bytes; frame with its length, 9 bytes
# A pickle of a tuple that is not empty ends with a mark that it may be referred to, and the end.
_NO_NAMES: Final = b"}\x86."  # an empty dict, the tuple of the arguments and that, the end


def dump_plain_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """``(args, kwargs)`` as a pickle, where both hold plain values."""
    is_bare = args and not kwargs
    data = _dumps(args if is_bare else (args, kwargs), 5)
    if len(data) < _LARGE and data[2] == _FRAME and _GLOBAL not in data:
        return data[_HEAD:-2] + (_NO_NAMES if is_bare else b".")
    return _dumps((args, kwargs), 5) if is_bare else data


def dump_plain_value(value: Any) -> bytes:
    """A plain value as a pickle."""
    data = _dumps(value, 5)
    if _HEAD < len(data) < _LARGE and data[2] == _FRAME and _GLOBAL not in data:
        return data[_HEAD:]
    return data
