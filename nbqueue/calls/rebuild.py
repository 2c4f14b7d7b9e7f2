"""Functions that pickles call while they load.

Stored pickles refer to these functions by name, so they are never renamed or moved, and their
arguments never change: an older pickle must load with newer code.
"""

from __future__ import annotations

import contextlib
import copyreg
import functools
import importlib
import pickle
import threading
import types
import typing
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from cloudpickle import cloudpickle

from nbqueue.calls import raw_exceptions, rebuild_enums
from nbqueue.calls.modules.lazy_imports import SourceModule, find_local
from nbqueue.errors import TaskFailed

LEFT_OUT = "__nbqueue_left_out__"
# The position of a class's identity in the arguments of cloudpickle's class makers.
_TRACKER_ID = -2
# The key of a class's copyreg registrations in the second part of its state.
COPYREG = "copyreg"
# The name under which a namespace refers to the modules of its call.
MODULES = "__nbqueue_modules__"
# Marks a module object that the sender's ``sys.modules`` has replaced by another.
DETACHED = "__nbqueue_detached__"

# Classes that were defined in this process. Loading a class sets its methods, which for these would
# be copies with other globals than the user's own, so they keep the methods that they have.
_originals: weakref.WeakSet[type] = weakref.WeakSet()
_received: weakref.WeakSet[type] = weakref.WeakSet()


# Set in a thread that only tests whether something loads.
_checking = threading.local()


class LocalModule(types.ModuleType):
    """A local module, with all of its names that could be sent.

    Reading a name that could not be sent raises an `AttributeError` with the reason.
    """

    def __getattr__(self, name: str) -> Any:
        reason = vars(self).get(LEFT_OUT, {}).get(name)
        module = vars(self).get("__name__")
        if reason is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise AttributeError(f"{module}.{name} was not sent with the call: {reason}")


def make_module(name: str, names: dict[str, Any]) -> LocalModule:
    """Return an empty module, which later functions and state fill."""
    module = LocalModule(name)
    vars(module).update(names)
    return module


def module_globals(module: types.ModuleType) -> dict[str, Any]:
    """Return the namespace that the functions of ``module`` share with it."""
    return vars(module)


def whole_module(module: types.ModuleType) -> types.ModuleType:
    """Return ``module``; `set_module` gives it the rest of its names."""
    return module


def set_module(module: types.ModuleType, state: tuple[dict[str, Any], dict[str, str]]) -> None:
    """Give a module its names, and the reasons for the missing ones."""
    names, left_out = state
    vars(module).update(names)
    if left_out:
        vars(module)[LEFT_OUT] = left_out


def add_source(name: str, file: str | None, folders: tuple[str, ...] | None, text: str) -> None:
    """Add a module that was sent as source only.

    Where a call is loaded to be run, another function takes its place.
    """


def add_names(module: types.ModuleType, names: dict[str, Any]) -> None:
    """Add names to a module that it may lack."""
    for name, value in names.items():
        vars(module).setdefault(name, value)


def note_sent_class(cls: type) -> None:
    """Record that ``cls`` was sent, so that its return does not change it."""
    if cls not in _received:
        _originals.add(cls)


def make_class(maker: Callable[..., type], *args: Any) -> type:
    """Return the class with this identity: the existing one, or a new one."""
    # Creating a class runs code of its bases, so it is done once.
    known = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(args[_TRACKER_ID])
    return maker(*args) if known is None else known


def named_class(
    module: str, file: str, name: str, tracker: str, maker: Callable[..., type], *args: Any
) -> type:
    """Return class ``name`` of the local module in ``file``, created if missing."""
    if cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker) is None:
        own = _own_class(module, file, name)
        if own is not None:
            return adopt_class(own, tracker)
    return maker(*args)


def adopt_class(cls: type, tracker: str) -> type:
    """Use a class of this process for the class identified as ``tracker``."""
    _originals.add(cls)
    adopted: type = cloudpickle._lookup_class_or_track(tracker, cls)
    return adopted


def _own_class(module: str, file: str, name: str) -> type | None:
    """Import a class from its module in this process.

    None unless the module's file is identical.
    """
    found = find_local(module)
    if found is None:
        return None
    here = found.file if isinstance(found, SourceModule) else vars(found).get("__file__")
    if here != file:
        return None
    try:
        owner: Any = importlib.import_module(module)
        for part in name.split("."):
            owner = getattr(owner, part)
    except Exception:  # the user's module runs here
        return None
    return owner if isinstance(owner, type) else None


def set_class(cls: type, state: Any) -> None:
    """Give a received class its attributes, unless it was defined in this process."""
    if cls in _originals or is_checking():
        return
    _received.add(cls)
    cloudpickle._class_setstate(cls, state)
    reduce = state[1].get(COPYREG)
    if reduce is not None:
        copyreg.pickle(cls, reduce)
    kept = state[1].get(rebuild_enums.MEMBERS)
    if kept is not None:
        rebuild_enums.set_members(cls, kept)


def is_checking() -> bool:
    """Return whether this thread only tests whether something loads."""
    return getattr(_checking, "is_on", False)


@contextlib.contextmanager
def classes_unchanged() -> Iterator[None]:
    """Leave existing classes unchanged by what this thread loads, within the block."""
    _checking.is_on = True
    try:
        yield
    finally:
        _checking.is_on = False


def make_cache(fn: Callable[..., Any], parameters: dict[str, Any], names: dict[str, Any]) -> Any:
    """Return ``fn`` with an empty `functools.lru_cache` around it.

    By default a cached function is pickled by name, which no worker knows.
    """
    cached = functools.lru_cache(**parameters)(fn)
    vars(cached).update(names)
    return cached


def make_cached_property(fn: Callable[[Any], Any], name: str | None) -> Any:
    """Return a `functools.cached_property`, which holds a lock up to Python 3.11."""
    made = functools.cached_property(fn)
    made.attrname = name
    return made


def make_new_type(name: str, supertype: Any, module: str) -> Any:
    """Return a `typing.NewType`."""
    made = typing.NewType(name, supertype)  # type: ignore[misc]  # its name is data here
    made.__module__ = module
    return made


def make_exception(
    cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]
) -> BaseException:
    """Return an exception without calling its ``__init__``."""
    return restore_exception(cls, args, state, {})


def restore_exception(
    cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any], slots: dict[str, Any]
) -> BaseException:
    """Return an exception with these attributes.

    Works even if its class refuses to set any.
    """
    made = cls.__new__(cls, *args)
    raw_exceptions.set_args(made, args)
    raw_exceptions.set_attributes(made, state, slots)
    return made


def empty_exception(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Return an exception without its attributes, which `set_exception` sets."""
    return restore_exception(cls, args, {}, {})


def set_exception(exc: BaseException, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Set the attributes and slots of an exception.

    Works even if its class refuses.
    """
    raw_exceptions.set_attributes(exc, *state)


def restore_group(
    cls: type[BaseException],
    message: str,
    members: list[BaseException],
    state: dict[str, Any],
    slots: dict[str, Any],
) -> BaseException:
    """Return an exception group; a builtin one if ``cls`` cannot be created."""
    try:
        made = cls.__new__(cls, message, members)
    except Exception:
        made = raw_exceptions.plain_group(message, members)
    raw_exceptions.set_attributes(made, state, slots)
    return made


def load_member(data: bytes | None, text: str, notes: list[str]) -> BaseException:
    """Load a group member; `TaskFailed` with ``text`` if that is not possible here."""
    try:
        loaded = None if data is None else pickle.loads(data)
    except Exception:
        loaded = None
    if isinstance(loaded, BaseException):
        return loaded
    failed = TaskFailed(text)
    for note in notes:
        raw_exceptions.add_note(failed, note)
    return failed
