"""Warn of large values and random generators that functions capture.

A function is sent with the globals, closures, defaults and attributes that it uses. They are sent
again each time one of them changes, and loaded by every process, so large ones should be arguments.
A copy of a random generator draws identical numbers wherever it is loaded.
"""

from __future__ import annotations

import functools
import sys
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from cloudpickle import cloudpickle

from nbqueue.calls.pickling import object_parts, preflight
from nbqueue.calls.pickling.local_modules import is_local, is_local_module
from nbqueue.calls.pickling.object_parts import Step
from nbqueue.calls.pickling.pickler import Pickled, Pickler
from nbqueue.calls.pickling.random_generators import is_generator_type
from nbqueue.calls.readable_names import short_name, type_name
from nbqueue.calls.rebuild import LocalModule
from nbqueue.errors import LargeCaptureWarning, RandomStateWarning, ValueTooLarge
from nbqueue.runtime.buffers import LARGEST_VALUE
from nbqueue.sizes import format_size

LARGE_CAPTURE: Final = 1_000_000
"""Captured values of at least this size, in bytes, cause a warning."""

_MOST_OBJECTS: Final = 10_000
_MOST_DEPTH: Final = 20
_MOST_COUNTED: Final = 64_000_000
"""Maximum size of counted small parts, in bytes.

It bounds the time of counting.
"""
_SMALL_PART: Final = 65_536

_PACKAGE = __name__.partition(".")[0]


class Found(NamedTuple):
    """A captured value: the path to it, the value, and its size.

    ``is_more`` means that it is larger than that size.
    """

    steps: tuple[Step, ...]
    value: object
    size: int = 0
    is_more: bool = False

    @property
    def size_text(self) -> str:
        return "more than " * self.is_more + format_size(self.size)

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(step.label for step in self.steps)


class _Warned:
    """The warnings already given for one function."""

    __slots__ = ("generators", "keys", "size")

    def __init__(self) -> None:
        self.generators: set[int] = set()
        self.keys: set[tuple[str, ...]] = set()
        self.size = 0


_warned: weakref.WeakKeyDictionary[Any, _Warned] = weakref.WeakKeyDictionary()


def too_large(fn: Callable[..., Any], limit: int) -> ValueTooLarge:
    """Return the error for a function that captures more than ``limit`` bytes."""
    found = list(_large_values(fn, limit))
    if not found:
        found = sorted(_large_values(fn, limit // 10), key=lambda each: -each.size)
    text = f"what {_subject(fn)} uses is larger than {format_size(limit)} in all"
    if found:
        text = _describe(fn, found[0], found[0].size_text)
    return ValueTooLarge(
        f"{text}, which is too large to be sent with the code (at most {format_size(limit)}): pass "
        f"it as an argument, or load it in the function{_way_out(limit)}",
        found[0].key if found else (),
    )


def _way_out(limit: int) -> str:
    return "; connect(captured_limit=…) allows more" if limit < LARGEST_VALUE else ""


def warn_of_captures(fn: Callable[..., Any], pickled: Pickled) -> None:
    """Warn of captured values in ``fn``, once for each function and variable."""
    size = len(pickled.data)
    if size <= LARGE_CAPTURE and not pickled.generators:
        return
    warned = _warned_of(fn)
    if size > warned.size + LARGE_CAPTURE:
        warned.size = size
        for found in _large_values(fn, LARGE_CAPTURE):
            _warn_once(
                warned,
                found,
                f"{_describe(fn, found, found.size_text)}: it is sent with the code each "
                "time either changes, and kept by every process; pass it as an argument",
                LargeCaptureWarning,
            )
    for number, generator in enumerate(pickled.generators):
        if id(generator) in warned.generators:
            continue
        warned.generators.add(id(generator))
        where = _find(fn, generator)
        if where is None and number:
            continue  # a part of another generator
        found = where or Found((), generator)
        _warn_once(
            warned,
            found,
            f"{_describe(fn, found)}: each executor draws from a copy of its own, so that tasks "
            f"may draw the same numbers, and no run repeats another. {_cure(fn)}",
            RandomStateWarning,
        )


def warn_of_shared(fn: Callable[..., Any], item: tuple[Any, ...], generator: object) -> None:
    """Warn of a generator that several tasks of a map share."""
    name = short_name(fn)
    at = next((i for i, value in enumerate(item, 1) if value is generator), None)
    where = "an argument" if at is None else f"argument {at}"
    warn_at_user(
        f"{where} of {name}() is, or holds, the same {type_name(type(generator))} in several tasks "
        f"of this map: each gets a copy of its state, and they draw the same numbers. {_cure(fn)}",
        RandomStateWarning,
    )


def _cure(fn: Callable[..., Any]) -> str:
    name = short_name(fn)
    name = name if name.isidentifier() else "fn"
    return f"Use q.options(seed=7).map({name}, …), and nbqueue.rng() in {name}()"


def _warned_of(fn: Any) -> _Warned:
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = getattr(fn, "__func__", fn)
    try:
        return _warned.setdefault(fn, _Warned())
    except TypeError:  # not hashable, or without weak references
        return _Warned()


def _warn_once(warned: _Warned, found: Found, text: str, category: type[Warning]) -> None:
    if found.key not in warned.keys:
        warned.keys.add(found.key)
        warn_at_user(text, category)


def warn_at_user(text: str, category: type[Warning]) -> None:
    """Issue the warning at the line of the user's code that called nbqueue."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def _is_ours(frame: types.FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == _PACKAGE


def _subject(fn: Any) -> str:
    return object_parts.noun(fn) if object_parts.is_code(fn) else f"{short_name(fn)}()"


def _describe(fn: Any, found: Found, size: str = "") -> str:
    text, names_value = preflight.sentence(fn, _subject(fn), found.steps)
    if not found.steps:
        text += f" uses a {type_name(type(found.value))}"
    elif not names_value:
        kind = type_name(type(found.value))
        text += f", {preflight.with_article(kind)}"
    return f"{text} of {size}" if size else text


# --- Walking the captured values ----------------------------------------------------------------


def _parts_of(obj: object) -> Iterator[tuple[Step, object]]:
    """Return the parts of ``obj`` that are sent by value."""
    if isinstance(obj, types.ModuleType):
        for name, value in list(vars(obj).items()):
            if not name.startswith("__"):
                text = f"has the variable {name!r}"
                yield Step(text, f"{obj.__name__}.{name}", is_verb=True), value
        return
    owner = getattr(obj, "__self__", None)
    if isinstance(obj, types.BuiltinMethodType) and not isinstance(owner, types.ModuleType):
        kind = type_name(type(owner))
        yield Step(f"the {kind} it is bound to", "__self__", names_value=True), owner
        return
    wrapped = _wrapped(obj)
    if wrapped is not None and not isinstance(obj, types.FunctionType):
        yield Step("", "", names_value=True), wrapped
    yield from object_parts.parts_of(obj)


def _wrapped(obj: object) -> object:
    """Return the function inside `functools.lru_cache` and other wrappers."""
    try:
        wrapped = getattr(obj, "__wrapped__", None)
    except Exception:  # any object may fail here
        return None
    return wrapped if isinstance(wrapped, types.FunctionType) else None


def _goes_by_name(value: object) -> bool:
    """Return whether a pickle of ``value`` only contains its name."""
    if isinstance(value, types.ModuleType):
        return not (isinstance(value, LocalModule) or is_local(value))
    if isinstance(value, types.FunctionType | type):
        if is_local_module(value.__module__):
            return False
        by_name: bool = cloudpickle._should_pickle_by_reference(value)
        return by_name
    return False


def _is_code(value: object) -> bool:
    """Return whether ``value`` is code with variables of its own, rather than data."""
    return (
        isinstance(
            value,
            types.FunctionType
            | types.MethodType
            | types.ModuleType
            | type
            | functools.partial
            | staticmethod
            | classmethod
            | property,
        )
        or _wrapped(value) is not None
    )


def _large_values(fn: object, above: int) -> Iterator[Found]:
    """Return the variables that hold more than ``above`` bytes."""
    seen = {id(fn)}
    to_do: list[tuple[tuple[Step, ...], object, bool]] = [((), fn, True)]
    while to_do and len(seen) < _MOST_OBJECTS:
        steps, obj, is_owner = to_do.pop(0)
        for step, value in _parts_of(obj):
            if id(value) in seen or _goes_by_name(value):
                continue
            seen.add(id(value))
            if value is None or isinstance(value, bool | int | float):
                continue
            path = (*steps, step) if step.text else steps
            # The attributes of a method's object count as variables.
            owns = is_owner and step.label == "__self__"
            if _is_code(value) or owns:
                if len(path) < _MOST_DEPTH:
                    to_do.append((path, value, owns))
                continue
            size, is_more = _measure(value)
            if size > above:
                yield Found(path, value, size, is_more)


def _find(fn: object, wanted: object) -> Found | None:
    """Return the shortest path from a function to an object that it captures."""
    seen = {id(fn)}
    to_do: list[tuple[tuple[Step, ...], object]] = [((), fn)]
    while to_do and len(seen) < _MOST_OBJECTS:
        steps, obj = to_do.pop(0)
        for step, value in _parts_of(obj):
            path = (*steps, step) if step.text else steps
            if value is wanted:
                return Found(path, value)
            if id(value) in seen or len(path) >= _MOST_DEPTH or _goes_by_name(value):
                continue
            seen.add(id(value))
            if not is_generator_type(type(value)):
                to_do.append((path, value))
    return None


# --- Sizes ---------------------------------------------------------------------------------------


class _Enough(Exception):
    """Raised when the count has reached its maximum."""


class _Counter:
    """A file object for a pickler that counts the bytes."""

    def __init__(self) -> None:
        self.size = 0
        self._small = 0

    def write(self, data: Any) -> int:
        size = len(data) if isinstance(data, bytes) else memoryview(data).nbytes
        self.size += size
        if size < _SMALL_PART + 100:  # a frame of small parts
            self._small += size
            if self._small > _MOST_COUNTED:
                raise _Enough
        return size


def _measure(value: object) -> tuple[int, bool]:
    """Return the size of a pickle of ``value``.

    Also returns whether that is a minimum.
    """
    if isinstance(value, bytes | bytearray | str):
        return len(value), False
    counter = _Counter()
    try:
        Pickler(counter).dump(value)
    except _Enough:
        return counter.size, True
    except MemoryError:
        raise
    except Exception:
        return 0, False  # it cannot be sent, which is reported elsewhere
    return counter.size, False
