"""Reducers for objects that pickle only handles by name, or not at all.

Sentinels and type variables of the notebook or a local module have a name that no worker can look
up. They are sent by value and keep their identity; see `identity`.
"""

from __future__ import annotations

import contextvars
import copyreg
import dataclasses
import enum
import functools
import pickle
import sys
import types
import typing
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from cloudpickle import cloudpickle

from nbqueue.calls import raw_exceptions, rebuild, rebuild_values
from nbqueue.calls.pickling import identity
from nbqueue.calls.pickling.local_modules import is_local_module

_MAINS = ("__main__", "__mp_main__")
# The type of C methods, in builtin types and most extension types.
_C_METHOD = types.MethodDescriptorType
# The code that every function of `functools.singledispatch` shares.
_dispatcher: Any = functools.singledispatch(lambda value: value)
_SINGLE_DISPATCH = _dispatcher.__code__
_KEYWORDS = {
    "__bound__": "bound",
    "__covariant__": "covariant",
    "__contravariant__": "contravariant",
    "__infer_variance__": "infer_variance",
    "__default__": "default",
}


class Begins(Protocol):
    """A pickler that knows which objects it has begun to reduce."""

    def begins(self, obj: object) -> bool:
        """Return whether ``obj`` is new; otherwise it is nested within itself."""


Reducer = Callable[[Any, Any], Any]


class FirstMet:
    """Replaces a pickler where no object occurs twice."""

    def begins(self, obj: object) -> bool:
        """Return True."""
        return True


def travels(module: object) -> bool:
    """Return whether code of a module with this name is sent by value."""
    return module in _MAINS or is_local_module(module)


def is_importable(obj: object, name: str) -> bool:
    """Return whether ``obj`` is installed under its name, and so is sent by name."""
    module_name = getattr(obj, "__module__", None)
    if not isinstance(module_name, str):
        module_name = pickle.whichmodule(obj, name)  # type: ignore[attr-defined]
    module = sys.modules.get(module_name)
    if module is None or travels(module_name):
        return False
    if cloudpickle._is_registered_pickle_by_value(module):
        return False
    found: object = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is obj


def _goes_by_name(obj: object, name: str) -> bool:
    return not identity.is_known(obj) and is_importable(obj, name)


def installed_home(obj: object) -> tuple[types.ModuleType, str] | None:
    """Return the installed module that holds ``obj``, and the attribute's name.

    Only for bare objects and context variables, which have no such attributes themselves.
    """
    global _homes_of
    if _homes_of != len(sys.modules):
        _homes.clear()
        _homes_of = len(sys.modules)
        for module in list(sys.modules.values()):
            if type(module) is types.ModuleType and not travels(module.__name__):
                for name, value in list(vars(module).items()):
                    if type(value) is object or type(value) is contextvars.ContextVar:
                        _homes.setdefault(id(value), (module, name))
    home = _homes.get(id(obj))
    return home if home is not None and getattr(*home, None) is obj else None


_homes: dict[int, tuple[types.ModuleType, str]] = {}
_homes_of = 0


# --- objects that return their own name


def _has_own_reduction(kind: type) -> bool:
    """Return whether non-builtin code decides how this type is pickled."""
    return (
        type(kind.__reduce__) is not _C_METHOD
        or type(kind.__reduce_ex__) is not _C_METHOD
        or kind in copyreg.dispatch_table
    )


def _reduce_by_own_method(pickler: Begins, obj: Any) -> Any:
    """Reduce ``obj`` by its own method; by value if no worker knows its name."""
    kind = type(obj)
    if kind in cloudpickle.Pickler._dispatch_table:
        return NotImplemented
    if identity.is_known(obj):
        return _reduce_by_identity(obj)
    registered = copyreg.dispatch_table.get(kind)
    reduced = obj.__reduce_ex__(5) if registered is None else registered(obj)
    if isinstance(reduced, str):
        return reduced if is_importable(obj, reduced) else _reduce_by_identity(obj)
    if _is_attribute(obj, reduced) or _is_looked_up(obj, reduced):
        return _reduce_by_identity(obj)
    return reduced


def _is_attribute(obj: object, reduced: Any) -> bool:
    """Return whether ``reduced`` reads ``obj`` from a module whose code is sent by value."""
    if not isinstance(reduced, tuple) or reduced[0] is not getattr or len(reduced[1]) != 2:
        return False
    module, name = reduced[1]
    if not isinstance(module, types.ModuleType) or not travels(module.__name__):
        return False
    return getattr(module, name, None) is obj


def _is_looked_up(obj: object, reduced: Any) -> bool:
    """Return whether ``reduced`` calls code by value that already holds the object.

    Pickling that code meets the object again, and the code cannot be called before it is complete.
    """
    if not isinstance(reduced, tuple):
        return False
    called = reduced[0]
    if not travels(getattr(called, "__module__", None)):
        return False
    return any(_holds(value, obj) for value in _reach(called))


def _reach(called: Any) -> Iterator[object]:
    """Yield what a function, method or class can access."""
    if isinstance(called, types.MethodType):
        yield from _reach(called.__self__)
        called = called.__func__
    if isinstance(called, type):
        yield called
    elif isinstance(called, types.FunctionType):
        for name in cloudpickle._extract_code_globals(called.__code__):
            yield called.__globals__.get(name)
        for cell in called.__closure__ or ():
            yield cloudpickle._get_cell_contents(cell)


def _holds(value: object, obj: object) -> bool:
    if value is obj:
        return True
    if isinstance(value, type):
        return any(_holds(inner, obj) for inner in _values_of_class(value))
    if isinstance(value, dict | weakref.WeakValueDictionary):
        return any(inner is obj for inner in list(value.values()))
    return type(value) in (list, tuple) and any(inner is obj for inner in value)  # type: ignore[attr-defined]


def _values_of_class(cls: type) -> Iterator[object]:
    return (value for value in vars(cls).values() if not isinstance(value, type))


def _reduce_by_identity(obj: Any) -> Any:
    if isinstance(obj, enum.Enum):
        return type(obj), (obj._value_,)
    cls, args = type(obj), _new_arguments(obj)
    try:
        rebuild_values.new_instance(cls, args)
    except Exception as error:
        raise pickle.PicklingError(f"a worker does not know it by its name, and {error}") from error
    made = rebuild_values.make_named, (identity.key_of(obj), cls, args)
    return (*made, state_of(obj), None, None, rebuild_values.set_named)


def _new_arguments(obj: Any) -> tuple[Any, ...]:
    get = getattr(obj, "__getnewargs__", None)
    return tuple(get()) if get is not None else ()


def state_of(obj: Any) -> Any:
    """Return the state of an object whose own reduction is only a name."""
    get = getattr(obj, "__getstate__", None)
    if get is not None:
        return get()
    names = dict(getattr(obj, "__dict__", {}))  # Python 3.10
    slots = {n: getattr(obj, n) for n in copyreg._slotnames(type(obj)) if hasattr(obj, n)}  # type: ignore[attr-defined]
    return names, slots


def _reduce_object(pickler: Begins, obj: object) -> Any:
    # It is only ever compared with ``is``.
    home = installed_home(obj)
    if home is not None:
        return getattr, home
    return rebuild_values.make_object, (identity.key_of(obj),)


def _reduce_dataclass_sentinel(pickler: Begins, obj: Any) -> Any:
    # By name, not by type: a plain pickle loaded here may have created a copy of it.
    return getattr, (dataclasses, _DATACLASS_SENTINELS[type(obj)])


_DATACLASS_SENTINELS = {type(getattr(dataclasses, name)): name for name in ("MISSING", "KW_ONLY")}


# --- exceptions


def _is_redefined(kind: type, name: str) -> bool:
    """Return whether Python code or an extension overrides this method in ``kind``."""
    owner = next(cls for cls in kind.__mro__ if name in vars(cls))
    return bool(owner.__flags__ & raw_exceptions.HEAP_TYPE)


def _is_plain_exception(kind: type) -> bool:
    """Return whether pickle would recreate this exception by calling its ``__init__``.

    ``__init__`` often wants other arguments than ``args`` has. The attributes are set afterwards,
    which the class may refuse, and those in slots are lost.
    """
    if not issubclass(kind, BaseException) or not kind.__flags__ & raw_exceptions.HEAP_TYPE:
        return False
    if any(_is_redefined(kind, name) for name in ("__reduce__", "__reduce_ex__")):
        return False
    set_state = kind.__setstate__  # type: ignore[attr-defined,unused-ignore]
    return type(set_state) is _C_METHOD or any("__slots__" in vars(cls) for cls in kind.__mro__)


def _reduce_exception(pickler: Begins, exc: BaseException) -> Any:
    """Reduce an exception to its class, ``args``, attributes and slots."""
    cls, args = type(exc), raw_exceptions.args_of(exc)
    if isinstance(cls.__new__, types.FunctionType):
        try:
            cls.__new__(cls, *args)
        except Exception as error:
            raise pickle.PicklingError(f"its __new__ does not take its args: {error}") from error
    made = rebuild.empty_exception, (cls, args)
    state = dict(raw_exceptions.names_of(exc)), raw_exceptions.slots_of(exc)
    return (*made, state, None, None, rebuild.set_exception)


# --- types


def _reduce_type_parameter(pickler: Begins, made: Any) -> Any:
    name = made.__name__
    if _goes_by_name(made, name):
        return name
    constraints: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    key, kind, module = identity.key_of(made), type(made).__name__, made.__module__
    if pickler.begins(made):
        constraints = getattr(made, "__constraints__", ())
        keywords = _keywords_of(made)
    elif kind == "TypeVar" and sys.version_info >= (3, 12):  # its bound refers to it
        return rebuild_values.make_recursive_parameter, (key, name, module)
    return rebuild_values.make_type_parameter, (key, kind, name, constraints, keywords, module)


def _keywords_of(made: Any) -> dict[str, Any]:
    keywords: dict[str, Any] = {}
    for attribute, keyword in _KEYWORDS.items():
        try:
            value = getattr(made, attribute)
        except Exception:  # not in this Python, or evaluated lazily with a name missing
            continue
        if keyword == "default":
            if type(value).__name__ != "NoDefaultType":
                keywords[keyword] = value
        elif value is not None and value is not False:
            keywords[keyword] = value
    return keywords


def _reduce_type_alias(pickler: Begins, made: Any) -> Any:
    name, key = made.__name__, identity.key_of(made)
    if _goes_by_name(made, name):
        return name
    if not pickler.begins(made):  # its value refers to it
        return rebuild_values.make_recursive_alias, (key, name, made.__module__)
    value = made.__value__
    return rebuild_values.make_type_alias, (key, name, value, made.__type_params__, made.__module__)


def _reduce_parameter_part(pickler: Begins, made: Any) -> Any:
    return type(made), (made.__origin__,)


# --- objects that work within one process only


def is_single_dispatch(fn: types.FunctionType) -> bool:
    """Return whether `functools.singledispatch` made ``fn``."""
    return fn.__code__ is _SINGLE_DISPATCH


def reduce_single_dispatch(fn: Any) -> Any:
    """Reduce a `functools.singledispatch` function to its implementations."""
    registered = [pair for pair in fn.registry.items() if pair[0] is not object]
    own = ("register", "dispatch", "registry", "_clear_cache")
    attributes = {name: value for name, value in vars(fn).items() if name not in own}
    names = {name: getattr(fn, name) for name in functools.WRAPPER_ASSIGNMENTS if hasattr(fn, name)}
    state = registered, attributes, names
    made = rebuild_values.make_single_dispatch, (fn.registry[object],)
    return (*made, state, None, None, rebuild_values.set_single_dispatch)


def _reduce_context_var(pickler: Begins, var: contextvars.ContextVar[Any]) -> Any:
    home = installed_home(var)
    if home is not None:
        return getattr, home
    value = value_of(var)
    if not identity.is_known(var):
        _values[id(var)] = value
    elif identity.is_own(var) and not _is_same(_values[id(var)], value):
        identity.new_key(var)
        _values[id(var)] = value
    return rebuild_values.make_context_var, (identity.key_of(var), var.name, value)


# The values of variables when they got their keys.
_values: dict[int, tuple[Any, ...]] = {}


def value_of(var: contextvars.ContextVar[Any]) -> tuple[Any, ...]:
    """Return the value or default of ``var`` as a tuple, or an empty one."""
    try:
        return (var.get(),)
    except LookupError:
        return ()


def _is_same(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    return len(before) == len(now) and all(a is b for a, b in zip(before, now, strict=True))


def _reduce_weak_container(pickler: Begins, weak: Any) -> Any:
    content = list(weak) if isinstance(weak, weakref.WeakSet) else list(weak.items())
    made = rebuild_values.make_weak_container, (type(weak),)
    return (*made, content, None, None, rebuild_values.set_weak_container)


def _refuse(pickler: Begins, obj: Any) -> Any:
    raise pickle.PicklingError(f"cannot pickle {type(obj).__name__!r} object")


def way_of(kind: type) -> Reducer | None:
    """Return the reducer for a type that is not in `REDUCERS`, or None."""
    if _is_plain_exception(kind):
        return _reduce_exception
    return _reduce_by_own_method if _has_own_reduction(kind) else None


WEAK_CONTAINERS = (weakref.WeakSet, weakref.WeakKeyDictionary, weakref.WeakValueDictionary)

REDUCERS: dict[type, Reducer] = {
    object: _reduce_object,
    type(dataclasses.MISSING): _reduce_dataclass_sentinel,
    type(dataclasses.KW_ONLY): _reduce_dataclass_sentinel,
    typing.TypeVar: _reduce_type_parameter,
    typing.ParamSpec: _reduce_type_parameter,
    typing.ParamSpecArgs: _reduce_parameter_part,
    typing.ParamSpecKwargs: _reduce_parameter_part,
    contextvars.ContextVar: _reduce_context_var,
    **dict.fromkeys(WEAK_CONTAINERS, _reduce_weak_container),
    weakref.finalize: _refuse,
}
if sys.version_info >= (3, 11):
    REDUCERS[typing.TypeVarTuple] = _reduce_type_parameter
if sys.version_info >= (3, 12):
    REDUCERS[typing.TypeAliasType] = _reduce_type_alias
