"""`DecoratedFunction`: a function with task options of its own, as ``@q.task`` makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class DecoratedFunction:
    """Base class of what ``@q.task`` returns: a plain function, and the options given to it."""

    __wrapped__: Callable[..., Any]
    _changes: Mapping[str, Any]


def undecorated(fn: Callable[..., Any]) -> tuple[Callable[..., Any], Mapping[str, Any]]:
    """Return the plain function, and the options that its decorator gave it."""
    if isinstance(fn, DecoratedFunction):
        return fn.__wrapped__, fn._changes
    return fn, {}
