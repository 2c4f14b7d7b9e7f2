"""Functions that pickles call for objects with an identity; see `rebuild`.

Stored pickles refer to these functions by name, so they are never renamed or moved, and their
arguments never change.
"""

from __future__ import annotations

import contextvars
import functools
import sys
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any

from nbqueue.calls import rebuild
from nbqueue.calls.pickling import identity

# The attribute of a weak container that keeps its contents alive.
KEPT_ALIVE = "_nbqueue_kept_alive"
_BUILTIN = (types.BuiltinFunctionType, types.BuiltinMethodType)


def make_named(key: str, cls: type, args: tuple[Any, ...]) -> Any:
    """Return the object with this key, or a new one; see `identity`."""
    return identity.find(key, lambda: new_instance(cls, args))


def new_instance(cls: type, args: tuple[Any, ...]) -> Any:
    """Return an instance of ``cls``, without running user code if possible."""
    new = next(n for c in cls.__mro__ if isinstance(n := vars(c).get("__new__"), _BUILTIN))
    if args and new is object.__new__:
        return cls.__new__(cls, *args)
    return new(cls, *args)


def set_named(obj: Any, state: Any) -> None:
    """Set the state of an object of `make_named`.

    Not if this process made it first.
    """
    if identity.is_own(obj) or rebuild.is_checking():
        return
    set_state = getattr(obj, "__setstate__", None)
    if set_state is not None:
        set_state(state)
        return
    names, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if isinstance(names, dict) and hasattr(obj, "__dict__"):
        vars(obj).clear()
        vars(obj).update(names)
    if isinstance(slots, dict):
        for name, value in slots.items():
            object.__setattr__(obj, name, value)


def make_object(key: str) -> object:
    """Return the bare ``object()`` with this key."""
    return identity.find(key, object)


def make_type_parameter(
    key: str,
    kind: str,
    name: str,
    constraints: tuple[Any, ...],
    keywords: dict[str, Any],
    module: str,
) -> Any:
    """Return a `typing.TypeVar`, ``ParamSpec`` or ``TypeVarTuple``."""

    def make() -> Any:
        words = dict(keywords)
        has_default = "default" in words
        default = words.get("default")
        if sys.version_info < (3, 13):  # older versions: typing_extensions keeps it as an attribute
            words.pop("default", None)
        made = getattr(typing, kind)(name, *constraints, **words)
        if has_default and sys.version_info < (3, 13):
            made.__default__ = default
        made.__module__ = module
        return made

    made = identity.find(key, make)
    _complete(key, keywords.get("bound"))
    return made


def make_type_alias(
    key: str, name: str, value: Any, parameters: tuple[Any, ...], module: str
) -> Any:
    """Return a `typing.TypeAliasType`."""

    def make() -> Any:
        # It belongs to the module whose code creates it.
        space = {"__name__": module, "make": typing.TypeAliasType}  # type: ignore[attr-defined]
        arguments = {"name": name, "value": value, "parameters": parameters}
        return eval("make(name, value, type_params=parameters)", space, arguments)

    made = identity.find(key, make)
    _complete(key, value)
    return made


# Placeholders for recursive types until they are complete.
_incomplete: dict[str, list[Any]] = {}


def make_recursive_alias(key: str, name: str, module: str) -> Any:
    """Return an alias inside its own value; `make_type_alias` completes it."""
    # Only the statement creates one whose value is evaluated later.
    return _make_recursive(key, module, f"type {name} = value[0]", lambda space: space[name])


def make_recursive_parameter(key: str, name: str, module: str) -> Any:
    """Return a ``TypeVar`` inside its own bound; `make_type_parameter` completes it."""
    statement = f"def generic[{name}: value[0]](): pass"
    return _make_recursive(
        key, module, statement, lambda space: space["generic"].__type_params__[0]
    )


def _make_recursive(
    key: str, module: str, statement: str, get: Callable[[dict[str, Any]], Any]
) -> Any:
    def make() -> Any:
        value = _incomplete[key] = []
        space: dict[str, Any] = {"__name__": module, "value": value}
        exec(statement, space)
        return get(space)

    return identity.find(key, make)


def _complete(key: str, value: Any) -> None:
    incomplete = _incomplete.pop(key, None)
    if incomplete is not None:
        incomplete.append(value)


def make_single_dispatch(fn: Callable[..., Any]) -> Any:
    """Return a `functools.singledispatch` function with only its default ``fn``."""
    return functools.singledispatch(fn)


def set_single_dispatch(
    made: Any, state: tuple[list[tuple[type, Callable[..., Any]]], dict[str, Any], dict[str, Any]]
) -> None:
    """Give such a function its implementations, its attributes and its names."""
    registered, attributes, names = state
    for cls, implementation in registered:
        made.register(cls, implementation)
    vars(made).update(attributes)
    for name, value in names.items():
        setattr(made, name, value)


def make_context_var(key: str, name: str, value: tuple[Any, ...]) -> Any:
    """Return a `contextvars.ContextVar` whose default is the sent value, if any."""

    def make() -> Any:
        if value:
            return contextvars.ContextVar(name, default=value[0])
        return contextvars.ContextVar(name)

    return identity.find(key, make)


def make_weak_container(cls: type) -> Any:
    """Return an empty weak set or dictionary."""
    return cls()


def set_weak_container(made: Any, content: list[Any]) -> None:
    """Fill a weak container and keep its contents alive as long as itself.

    In the sender's process another object kept them alive, which was not sent.
    """
    if isinstance(made, weakref.WeakSet):
        for member in content:
            made.add(member)
    else:
        for key, value in content:
            made[key] = value
    vars(made)[KEPT_ALIVE] = content
