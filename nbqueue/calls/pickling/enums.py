"""Pickle enumerations by value, with their members, without calling user code.

cloudpickle recreates the members from their values. That loses aliases and the attributes that
``__init__`` and ``__new__`` set, and fails if a value is not what a member is created from.
"""

from __future__ import annotations

import copyreg
import enum
import types
from typing import Any

from cloudpickle import cloudpickle

from nbqueue.calls import rebuild_enums

# Attributes that `enum` itself sets in a class or member; the metaclass recreates them.
_OF_CLASS = (
    "_generate_next_value_",
    "_member_names_",
    "_member_map_",
    "_member_type_",
    "_value2member_map_",
)
_OF_MEMBER = frozenset({"_name_", "_value_", "__objclass__", "_sort_order_"})


def reduce_enum(cls: Any) -> tuple[Any, ...] | None:
    """Reduce an enumeration; None if only its members' own code can recreate it."""
    members: dict[str, tuple[Any, ...]] = {}
    for name, member in cls._member_map_.items():
        made_from = _arguments_of(member)
        if made_from is None:
            return None
        members[name] = (*made_from, member._value_)
    names, more = _state_of(cls)
    kept = {name: kept for name, m in cls._member_map_.items() if (kept := _kept_by(m))}
    if kept:
        more = {**more, rebuild_enums.MEMBERS: kept}
    arguments = (
        type(cls),
        cls.__bases__,
        cls.__name__,
        cls.__qualname__,
        cls.__module__,
        members,
        _own_boundary(cls),
        cloudpickle._get_or_create_tracker_id(cls),
        None,
    )
    state = names, more
    return rebuild_enums.make_enum, arguments, state, None, None, cloudpickle._class_setstate


def _state_of(cls: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    names, more = cloudpickle._class_getstate(cls)
    for name in (*_OF_CLASS, *cls._member_map_):
        names.pop(name, None)
    return names, more


def _arguments_of(member: enum.Enum) -> tuple[type, tuple[Any, ...]] | None:
    """Return the builtin type of ``member`` and the arguments that create it."""
    kind = type(member)
    base: Any = next(
        base
        for base in kind.__mro__
        if isinstance(vars(base).get("__new__"), types.BuiltinFunctionType)
    )
    if base is object:
        return base, ()
    if "__getnewargs__" in vars(base):
        return base, base.__getnewargs__(member)
    try:
        called, arguments, *_ = base.__reduce_ex__(member, 2)
    except Exception:
        return None
    return (base, arguments) if called is kind and isinstance(arguments, tuple) else None


def _kept_by(member: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the attributes and slots that a member itself defines."""
    names = {k: value for k, value in vars(member).items() if k not in _OF_MEMBER}
    slots = {}
    for name in copyreg._slotnames(type(member)):  # type: ignore[attr-defined]
        if hasattr(member, name):
            slots[name] = getattr(member, name)
    return (names, slots) if names or slots else None


def _own_boundary(cls: Any) -> Any:
    """Return how a flag treats unknown bits, unless its base treats them alike."""
    own = getattr(cls, "_boundary_", None)
    return None if own is getattr(cls.__bases__[-1], "_boundary_", None) else own
