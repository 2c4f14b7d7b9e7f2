"""Cache pickled functions for as long as nothing that they use has changed.

The pickle of a function depends on its code and on everything that the code uses: globals,
closures, defaults. A function is cached only if all of that is functions, immutable plain values
and objects sent by name, and the entry is valid only while each of these is the identical object.
Lists, notebook classes, instances and local modules can change without notice, so functions that
use them are pickled each time.
"""

from __future__ import annotations

import operator
import sys
import threading
import types
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any, Final, Generic, NamedTuple, TypeVar

from cloudpickle import cloudpickle

from nbqueue.calls.modules.lazy_imports import is_settled
from nbqueue.calls.pickling.local_modules import is_local, is_local_module

T = TypeVar("T")

_ATOMS: Final = frozenset({int, float, complex, str, bytes, bool, type(None), type(...), range})
_BUILTINS: Final = (types.BuiltinFunctionType, types.MethodDescriptorType)
_MOST_FUNCTIONS: Final = 64
_MISSING: Final = object()


class _Function(NamedTuple):
    """A function by value, its globals, and its parts when it was pickled."""

    fn: Any
    names: tuple[str, ...]
    parts: list[Any]


class _Entry(NamedTuple):
    functions: list[_Function]
    modules: int
    by_value: set[str]
    made: Any


class FunctionCache(Generic[T]):
    """The pickles of the last functions, valid while these do not change. Thread-safe.

    It keeps the functions and the values that they use alive. These are small, and the cache is
    short.
    """

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._entries: OrderedDict[Callable[..., Any], _Entry] = OrderedDict()

    def renew_lock(self) -> None:
        """Replace the lock after a fork.

        Another thread of the parent may hold it.
        """
        self._lock = threading.Lock()

    def get(self, fn: Callable[..., Any]) -> T | None:
        """Return the cached pickle of ``fn`` if the function has not changed."""
        if type(fn) is not types.FunctionType:
            return None
        entry = self._entries.get(fn)
        if entry is None:
            return None
        for function in entry.functions:
            parts = _parts(function.fn, function.names)
            before = function.parts
            if len(parts) != len(before) or any(map(operator.is_not, parts, before)):
                return None
        if entry.modules and entry.modules != len(sys.modules):
            return None  # a new submodule may have been added, which is sent with its package
        if entry.by_value != cloudpickle._PICKLE_BY_VALUE_MODULES:
            return None
        made: T = entry.made
        return made

    def put(self, fn: Callable[..., Any], made: T) -> None:
        """Cache the pickle of ``fn``, if changes to it can be detected."""
        if type(fn) is not types.FunctionType:
            return
        graph = _Graph()
        if graph.add_function(fn):
            modules = len(sys.modules) if graph.has_modules else 0
            registered = set(cloudpickle._PICKLE_BY_VALUE_MODULES)
            with self._lock:
                self._entries[fn] = _Entry(graph.functions, modules, registered, made)
                self._entries.move_to_end(fn)
                if len(self._entries) > self._most:
                    self._entries.popitem(last=False)


def _parts(fn: types.FunctionType, names: Iterable[str]) -> list[Any]:
    """Return the parts of ``fn`` that its pickle depends on.

    Their own parts are not included.
    """
    parts: list[Any] = [
        fn.__code__, fn.__name__, fn.__qualname__, fn.__module__, fn.__doc__, fn.__defaults__,
    ]  # fmt: skip
    for mapping in (fn.__kwdefaults__, fn.__annotations__, fn.__dict__):
        if mapping:
            parts += mapping
            parts += mapping.values()
        parts.append(_MISSING)
    for cell in fn.__closure__ or ():
        try:
            parts.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            parts.append(_MISSING)
    parts += map(fn.__globals__.get, names, repeat(_MISSING))
    return parts


class _Graph:
    """The functions that one function needs, itself first."""

    def __init__(self) -> None:
        self.functions: list[_Function] = []
        self.has_modules = False
        self._seen: set[int] = set()

    def add_function(self, fn: types.FunctionType) -> bool:
        """Add ``fn`` and what it uses. Returns False if changes cannot be detected."""
        if id(fn) in self._seen:
            return True
        self._seen.add(id(fn))
        if len(self.functions) >= _MOST_FUNCTIONS:
            return False
        if not is_settled(fn.__code__):
            return False  # a module that it imports when it runs may change without notice
        names = tuple(cloudpickle._extract_code_globals(fn.__code__))
        parts = _parts(fn, names)
        self.functions.append(_Function(fn, names, parts))
        return all(self._add(part) for part in parts[1:] if part is not _MISSING)

    def _add(self, value: Any) -> bool:
        kind = type(value)
        if kind in _ATOMS:
            return True
        if kind is tuple or kind is frozenset:
            return all(map(self._add, value))
        if kind is types.FunctionType:
            return _is_named(value) or self.add_function(value)
        if kind is types.ModuleType:
            self.has_modules = True
            return not is_local(value) and sys.modules.get(value.__name__) is value
        if isinstance(value, _BUILTINS) or issubclass(kind, type):
            return _is_named(value)
        return False


def _is_named(value: Any) -> bool:
    """Return whether a function or class is installed, so sent by name."""
    module = sys.modules.get(getattr(value, "__module__", None) or "builtins")
    if module is None or module.__name__ == "__main__" or is_local_module(module.__name__):
        return False
    if cloudpickle._is_registered_pickle_by_value(module):
        return False
    found: Any = module
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value
