"""Readable names of functions and types for records, messages and errors."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

_MAX_NAME = 200
# Module names that add nothing for a reader.
_SILENT_MODULES = frozenset({"__main__", "__mp_main__", "builtins"})


def callable_name(fn: Callable[..., Any]) -> str:
    """Return a readable name: ``"fit"`` in a notebook, ``"package.module.fit"`` elsewhere.

    A partial has the name of the function that it wraps, a bound method ``Class.method``, an
    instance with ``__call__`` the name of its class. Never blank, and always valid UTF-8.
    """
    fn = unwrap_partial(fn)
    name = getattr(fn, "__qualname__", None) or getattr(fn, "__name__", None)
    module = getattr(fn, "__module__", None)
    owner = getattr(fn, "__self__", None)
    if isinstance(fn, types.BuiltinMethodType) and not isinstance(owner, types.ModuleType | None):
        module = module or (owner if isinstance(owner, type) else type(owner)).__module__
    if not isinstance(name, str) or not name.strip():
        name, module = type(fn).__qualname__, type(fn).__module__
    name = name.replace("<locals>.", "")
    if isinstance(module, str) and module and module not in _SILENT_MODULES:
        name = f"{module}.{name}"
    return clean_text(name, _MAX_NAME).strip() or "function"


def short_name(fn: object) -> str:
    """Return the last part of a function's or class's name, for a sentence."""
    fn = unwrap_partial(fn)
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    return clean_text(str(name).rpartition("<locals>.")[2], _MAX_NAME)


def type_name(cls: type) -> str:
    """Return ``"sqlite3.Connection"``, but ``"Config"`` for a notebook class."""
    module = getattr(cls, "__module__", None)
    name = str(getattr(cls, "__qualname__", cls.__name__)).rpartition("<locals>.")[2]
    if isinstance(module, str) and module not in _SILENT_MODULES:
        name = f"{module}.{name}"
    return clean_text(name, _MAX_NAME)


def unwrap_partial(fn: Any) -> Any:
    """Return the function inside any `functools.partial`."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Return whether calling ``fn`` gives a coroutine, through a partial or ``__call__`` too."""
    inner = unwrap_partial(fn)
    if inspect.iscoroutinefunction(inner):
        return True
    if isinstance(inner, type) or inspect.isroutine(inner):
        return False
    return inspect.iscoroutinefunction(getattr(type(inner), "__call__", None))  # noqa: B004


def clean_text(text: str, cap: int) -> str:
    """Return valid UTF-8 of at most ``cap`` characters, cut in the middle.

    More of the end is kept, because the end of a traceback has the error.
    """
    if len(text) > cap:
        note = f"\n… {len(text) - cap} characters left out …\n" if cap > 400 else "…"
        kept = max(cap - len(note), 1)
        head = kept // 4
        text = text[:head] + note + text[len(text) - (kept - head) :]
    if text.isascii():
        return text
    # File names and other external bytes become lone surrogates in str, which protobuf, Redis
    # clients and terminals refuse.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
