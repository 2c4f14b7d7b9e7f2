"""Collect the definitions of a notebook, for calls that read pickles.

A pickle refers to classes and functions by name. The code that reads it does not show which, so
such a call is sent with all definitions of the notebook and the local modules that it imported.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final

from nbqueue.calls.modules.lazy_imports import facts_of
from nbqueue.calls.pickling.local_modules import is_local, is_local_module

_PICKLE: Final = frozenset({"load", "loads", "Unpickler"})
_READERS: Final[dict[str, frozenset[str]]] = {
    "pickle": _PICKLE,
    "_pickle": _PICKLE,
    "cloudpickle": _PICKLE,
    "cloudpickle.cloudpickle": _PICKLE,
    "dill": _PICKLE,
    "dill._dill": _PICKLE,
    "shelve": frozenset({"open", "Shelf", "BsdDbShelf", "DbfilenameShelf"}),
    "joblib": frozenset({"load", "Memory"}),
    "joblib.numpy_pickle": frozenset({"load"}),
    "torch": frozenset({"load"}),
    "torch.serialization": frozenset({"load"}),
    "pandas": frozenset({"read_pickle", "read_hdf"}),
    "pandas.io.pickle": frozenset({"read_pickle"}),
    "numpy": frozenset({"load"}),
}

_ALL_READERS: Final = frozenset().union(*_READERS.values())


def is_reader(value: object) -> bool:
    """Return whether ``value`` is an installed function or class that reads pickles."""
    module = getattr(value, "__module__", None)
    names = _READERS.get(module) if isinstance(module, str) else None
    return names is not None and getattr(value, "__name__", None) in names


def reads_pickles(code: types.CodeType, names: Mapping[str, Any]) -> bool:
    """Return whether ``code``, with globals ``names``, uses a function that reads pickles."""
    imports, used = facts_of(code)
    if _ALL_READERS.isdisjoint(used):
        return False
    for name in used:
        value = names.get(name)
        if isinstance(value, types.ModuleType):
            readers = _READERS.get(value.__name__)
            if readers is not None and not readers.isdisjoint(used):
                return True
        elif value is not None and is_reader(value):
            return True
    for each in imports:
        readers = _READERS.get(each.name)
        if readers is not None and not readers.isdisjoint(used):
            return True
    return False


def definitions() -> Iterator[Any]:
    """Yield the definitions of ``__main__`` and the local modules that it uses.

    Definitions are functions and classes.
    """
    main = sys.modules.get("__main__")
    for name, value in list(vars(main).items()) if main is not None else ():
        if isinstance(value, types.ModuleType):
            if is_local(value):
                yield value
        elif isinstance(value, types.FunctionType | type):
            owner = value.__module__
            if (owner == "__main__" and value.__qualname__ == name) or is_local_module(owner):
                yield value
