"""Functions that pickles of enumerations call; the rules of `rebuild` apply.

The members are created by the metaclass, as in a ``class`` statement, but without the user's
``__new__`` and ``__init__``: their effects are already part of the pickle.
"""

from __future__ import annotations

from typing import Any

from cloudpickle import cloudpickle

# The key of the members' attributes in the second part of the class's state.
MEMBERS = "members"


class _Member:
    """Represents a member in the namespace from which the metaclass creates the class."""

    def __init__(self, base: type, arguments: tuple[Any, ...], value: Any) -> None:
        self.base = base
        self.arguments = arguments
        self.value = value


def _new_member(cls: type, given: Any) -> Any:
    while isinstance(given, tuple):  # tuples are unpacked as in the class statement
        (given,) = given
    made: Any = given.base.__new__(cls, *given.arguments)
    made._value_ = given.value
    return made


def _init_member(self: object, *args: object) -> None:
    """Leave the member unchanged; `set_members` gives it its attributes."""


def make_enum(
    metaclass: Any,
    bases: tuple[type, ...],
    name: str,
    qualname: str,
    module: str,
    members: dict[str, tuple[type, tuple[Any, ...], Any]],
    boundary: Any,
    tracker: str,
    extra: object,
) -> type:
    """Return an enumeration with its members, but without attributes."""
    space = metaclass.__prepare__(name, bases)
    space["__module__"] = module
    space["__qualname__"] = qualname
    if members:
        space["__new__"] = _new_member
        space["__init__"] = _init_member
    for each, parts in members.items():
        space[each] = _Member(*parts)
    options = {} if boundary is None else {"boundary": boundary}
    made = metaclass.__new__(metaclass, name, bases, space, **options)
    for ours in ("__init__", "__new_member__", "__reduce_ex__"):
        # Up to Python 3.11, the last one prevents pickling members of a class with a `__new__`.
        found = vars(made).get(ours)
        if found in (_init_member, _new_member) or getattr(found, "__name__", "").startswith(
            "_break_on_call"
        ):
            type.__delattr__(made, ours)
    made.__module__ = module  # reset: the metaclass may have changed it
    tracked: type = cloudpickle._lookup_class_or_track(tracker, made)
    return tracked


def set_members(cls: Any, kept: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Give the members of an enumeration their attributes and slots."""
    for name, (names, slots) in kept.items():
        member = cls._member_map_[name]
        vars(member).update(names)
        for slot, value in slots.items():
            object.__setattr__(member, slot, value)
