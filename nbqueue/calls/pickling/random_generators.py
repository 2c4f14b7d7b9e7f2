"""Pickle the random generators of modules by name, and record copies of others."""

from __future__ import annotations

import random
import sys
import types
from typing import Any, Final

_HOMES: Final = ("random", "numpy.random", "numpy.random.mtrand", "torch", "torch.random")
"""Modules whose functions draw from a module-level generator in each process."""

_MADE_AT_RUN_TIME: Final = 1 << 9
"""The type flag of classes that may be garbage-collected."""

OTHERS: Final[set[type]] = set()
"""Permanent types that are known not to be generators."""

_types: tuple[type, ...] = (random.Random,)
_has_numpy = False


def is_generator_type(kind: type) -> bool:
    """Return whether objects of this type draw random numbers."""
    global _types, _has_numpy
    if not _has_numpy:
        numpy = sys.modules.get("numpy.random")
        names = ("Generator", "RandomState", "BitGenerator")
        found = [each for name in names if isinstance(each := getattr(numpy, name, None), type)]
        if len(found) == len(names):
            _types, _has_numpy = (random.Random, *found), True
    if issubclass(kind, _types):
        return True
    if kind.__name__ == "Generator" and str(kind.__module__).partition(".")[0] == "torch":
        return True
    if not kind.__flags__ & _MADE_AT_RUN_TIME:
        OTHERS.add(kind)
    return False


def has_own_state(obj: object) -> bool:
    """Return whether a pickle of the generator ``obj`` copies its state."""
    return not isinstance(obj, random.SystemRandom)


def reduce_by_name(obj: object) -> Any:
    """Reduce a module's generator to its name; None for others.

    The functions of `random` and `numpy.random` are methods of such generators: copies of their
    state would draw identical numbers in each task.
    """
    if type(obj) is random.SystemRandom:
        return random.SystemRandom, ()
    for home in _HOMES:
        module = sys.modules.get(home)
        if type(module) is types.ModuleType:
            for name, value in list(vars(module).items()):
                if value is obj:
                    return getattr, (module, name)
    return None
