"""Read the parameters of a stored function, if possible without loading it.

A pickled function contains its code object, whose names and defaults can be read with placeholders
for everything else. So no package is imported that the function uses, and it may come from another
version of Python. Other callables, such as partials, methods and installed functions, are loaded.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any, Final

from nbqueue.calls.functions import load_function
from nbqueue.client.arguments.function_parameters import UNKNOWN, Parameters
from nbqueue.tasks.retry_policy import WithPolicy

_VAR_POSITIONAL: Final = 0x04
_VAR_KEYWORD: Final = 0x08
_ATOMS: Final = frozenset({int, float, complex, str, bytes, bool, type(None), type(...)})
_MOST_STEPS: Final = 100


def parameters_of(blob: bytes | memoryview) -> Parameters:
    """Return the parameters of the function of `dump_function`. Only for a verified ``blob``.

    `UNKNOWN` if they cannot be read; raises nothing.
    """
    read = _without_loading(blob)
    if read is not None and all(map(_is_plain, read.defaults.values())):
        return read
    try:
        function: Any = load_function(blob)
        return Parameters.of(function.fn if isinstance(function, WithPolicy) else function)
    except Exception:
        if read is None:
            return UNKNOWN
    known = {name: value for name, value in read.defaults.items() if _is_plain(value)}
    return read._replace(defaults=known)


def _without_loading(blob: bytes | memoryview) -> Parameters | None:
    """Return what the code object has, with a `_Placeholder` for each default that is no atom."""
    try:
        data = pickle.loads(blob)[3]
        function = _Reader(io.BytesIO(data)).load()
        for _ in range(_MOST_STEPS):
            inner = _inner(function)
            if inner is None:
                return _parameters(function)
            function = inner
    except Exception:
        return None
    return None


def _inner(function: Any) -> Any:
    """Return the function that has the parameters of this one, or None if it has its own."""
    if type(function).__name__ == "WithPolicy":
        return function.state["fn"]
    return function.attributes.get("__wrapped__")


def _parameters(function: Any) -> Parameters | None:
    if type(function).__name__ != "_make_function" or "__signature__" in function.attributes:
        return None
    (count, only_positional, only_keyword, _, _, flags, _, _, _, names) = function.args[0].args[:10]
    positional, rest = names[:count], names[count + only_keyword :]
    defaults = function.slots.get("__defaults__") or ()
    filled = dict(zip(positional[count - len(defaults) :], defaults, strict=True))
    filled.update(function.slots.get("__kwdefaults__") or {})
    args = rest[:1] if flags & _VAR_POSITIONAL else ()
    kwargs = rest[len(args) :][:1] if flags & _VAR_KEYWORD else ()
    return Parameters(
        positional,
        only_positional,
        names[count : count + only_keyword],
        args[0] if args else None,
        kwargs[0] if kwargs else None,
        filled,
    )


class _Placeholder:
    """Stands for an object of a pickle, and records what it would be made of."""

    args: tuple[Any, ...]
    state: Any = None
    attributes: Mapping[str, Any] = {}
    slots: Mapping[str, Any] = {}

    def __new__(cls, *args: Any, **_: Any) -> _Placeholder:
        made = object.__new__(cls)
        made.args = args
        if cls.__name__ == "_function_setstate":
            args[0].attributes, args[0].slots = args[1]
        return made

    def __call__(self, *args: Any) -> _Placeholder:
        return _Placeholder(*args)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...


class _Reader(pickle.Unpickler):
    """Reads a pickle with a `_Placeholder` for every class and function: imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        return type(name, (_Placeholder,), {"__module__": module})


def _is_plain(value: Any, depth: int = 5) -> bool:
    kind = type(value)
    if kind in _ATOMS:
        return True
    if depth == 0:
        return False
    if kind in (tuple, list, set, frozenset):
        return all(_is_plain(each, depth - 1) for each in value)
    return kind is dict and all(
        _is_plain(each, depth - 1) for pair in value.items() for each in pair
    )
