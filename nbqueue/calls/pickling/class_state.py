"""Pickle classes by value, including their slots."""

from __future__ import annotations

import abc
import copyreg
import enum
import types
import typing
from collections.abc import Iterator
from typing import Any

from cloudpickle import cloudpickle

from nbqueue.calls import rebuild
from nbqueue.calls.pickling import enums

_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)
# Python caches it in the class when an instance is pickled, and recreates it if missing.
_SLOT_NAMES_CACHE = "__slotnames__"


def reduce_class(cls: type) -> tuple[Any, ...]:
    """Reduce a class by value like cloudpickle does, but keep its slots.

    A class has the slots that it was created with: assigning them later has no effect. So they are
    part of the arguments that create the empty class, not only of its state.
    """
    slots = slots_of(cls)
    if issubclass(cls, enum.Enum):
        reduced_enum = enums.reduce_enum(cls)
        if reduced_enum is not None:
            return reduced_enum
    if slots is None:
        reduced: tuple[Any, ...] = cloudpickle._dynamic_class_reduce(cls)
        return reduced
    arguments = list(cloudpickle._class_getnewargs(cls))
    arguments[3]["__slots__"] = slots
    return (
        cloudpickle._make_skeleton_class,
        tuple(arguments),
        (_state_of(cls, slots), {}),
        None,
        None,
        cloudpickle._class_setstate,
    )


def is_ours_by_value(cls: type) -> bool:
    """Return whether ``cls`` is sent by value with slots or members, outside local modules."""
    if "__slots__" not in vars(cls) and not issubclass(cls, enum.Enum):
        return False
    return not cloudpickle._should_pickle_by_reference(cls)


def complete_state(cls: type, state: tuple[dict[str, Any], dict[str, Any]]) -> Any:
    """Return the state of a class, including its registrations with `copyreg`."""
    names, more = state
    names.pop(_SLOT_NAMES_CACHE, None)
    reduce = copyreg.dispatch_table.get(cls)
    return (names, more) if reduce is None else (names, {**more, rebuild.COPYREG: reduce})


def slots_of(cls: type) -> tuple[str, ...] | None:
    """Return the slots for a class with this layout.

    None for no slots.
    """
    names = vars(cls)
    if "__slots__" not in names or _makes_its_own_slots(cls):
        return None
    slots = {
        name: None
        for name, value in names.items()
        if isinstance(value, types.MemberDescriptorType) and value.__objclass__ is cls
    }
    if not cls.__itemsize__:
        # Slots whose descriptor was replaced, for example by a property with that name.
        slots.update(dict.fromkeys(_declared(cls)))
    for name in ("__dict__", "__weakref__"):
        slots.pop(name, None)
        found = names.get(name)
        # Up to Python 3.10, a dataclass has the descriptor of the class that it was made from.
        if isinstance(found, types.GetSetDescriptorType) and found.__objclass__ is cls:
            slots[name] = None
    return tuple(slots)


def _makes_its_own_slots(cls: type) -> bool:
    return issubclass(cls, enum.Enum) or typing.NamedTuple in vars(cls).get("__orig_bases__", ())


def _declared(cls: type) -> Iterator[str]:
    """Yield the names in ``__slots__``; an iterator there is already exhausted."""
    declared = cls.__slots__  # type: ignore[attr-defined]
    if isinstance(declared, str):
        declared = (declared,)
    if not isinstance(declared, tuple | list | dict | set | frozenset):
        return
    owner = cls.__name__.lstrip("_")
    for name in declared:
        if not isinstance(name, str):
            continue
        is_private = name.startswith("__") and not name.endswith("__") and owner
        yield f"_{owner}{name}" if is_private else name


def _state_of(cls: type, slots: tuple[str, ...]) -> dict[str, Any]:
    """Return the attributes of a class, without the descriptors of its slots."""
    names: dict[str, Any] = cloudpickle._extract_class_dict(cls)
    for name, value in list(names.items()):
        if isinstance(value, _DESCRIPTORS) and value.__objclass__ is cls:
            del names[name]
    for name in ("__dict__", "__weakref__", "__annotate_func__"):
        names.pop(name, None)
    if not isinstance(names.get("__slots__", ()), str | tuple | list | dict | set | frozenset):
        names["__slots__"] = slots
    if isinstance(cls, abc.ABCMeta):
        names.pop("_abc_impl", None)
        registered = abc._get_dump(cls)[0]  # type: ignore[attr-defined]
        names["_abc_impl"] = [found for ref in registered if (found := ref()) is not None]
    return names
