"""List the parts of an object as pickle sees them, described in words."""

from __future__ import annotations

import contextvars
import copyreg
import dis
import functools
import inspect
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

from nbqueue.calls.pickling import reducers
from nbqueue.calls.pickling.local_modules import is_local_module
from nbqueue.calls.pickling.pickle_hints import is_of_the_notebook
from nbqueue.calls.readable_names import clean_text, short_name, type_name

_GLOBAL_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})


class Step(NamedTuple):
    """The step from an object to one of its parts.

    ``is_verb``: ``text`` continues after "which"; otherwise it follows a colon.
    ``names_value``: ``text`` already describes the part, so that its type adds nothing.
    """

    text: str
    label: str
    is_verb: bool = False
    names_value: bool = False


_Part = tuple[Step, object]


def is_code(obj: object) -> bool:
    """Return whether a sentence should name ``obj``: a function, method or class."""
    return isinstance(obj, types.FunctionType | types.MethodType | type)


def noun(obj: object) -> str:
    """Return the word for a function or a class in a sentence."""
    return short_name(obj) if isinstance(obj, type) else f"{short_name(obj)}()"


def parts_of(obj: object) -> Iterator[_Part]:
    """Yield the parts of ``obj`` that pickle would visit, the most informative first."""
    if isinstance(obj, types.FunctionType):
        yield from _function_parts(obj)
    elif isinstance(obj, type):
        yield from _class_parts(obj)
    elif isinstance(obj, types.MethodType):
        kind = type_name(type(obj.__self__))
        yield Step(f"the {kind} it is bound to", "__self__", names_value=True), obj.__self__
        yield _code_step("is the method", obj.__func__), obj.__func__
    elif isinstance(obj, functools.partial):
        yield _code_step("calls", obj.func), obj.func
        for index, value in enumerate(obj.args):
            yield _data_step(f"argument {index + 1} of the partial", f"[{index}]", value), value
        for key, value in obj.keywords.items():
            yield _data_step(f"argument {key!r} of the partial", f"[{key!r}]", value), value
    elif isinstance(obj, staticmethod | classmethod):
        yield _code_step("is", obj.__func__), obj.__func__
    elif isinstance(obj, property):
        for accessor in (obj.fget, obj.fset, obj.fdel):
            if accessor is not None:
                yield _code_step("calls", accessor), accessor
    elif type(obj) is dict or isinstance(obj, types.MappingProxyType):
        yield from _mapping_parts(obj)
    elif type(obj) in (list, tuple, set, frozenset):
        yield from _sequence_parts(obj)
    elif type(obj) is contextvars.ContextVar:
        for value in reducers.value_of(obj):
            yield (
                _data_step(f"the value of the context variable {obj.name!r}", "value", value),
                value,
            )
    elif isinstance(obj, reducers.WEAK_CONTAINERS):
        if type(obj) is weakref.WeakSet:
            yield from _sequence_parts(list(obj))
        elif type(obj) in reducers.WEAK_CONTAINERS:  # a subclass is refused as a whole
            yield from _mapping_parts(obj)
    elif not is_of_the_notebook(obj):
        yield from _instance_parts(obj)


def _function_parts(fn: types.FunctionType) -> Iterator[_Part]:
    if reducers.is_single_dispatch(fn):
        for cls, implementation in fn.registry.items():  # type: ignore[attr-defined]
            text = f"calls its implementation for {type_name(cls)}"
            yield Step(text, f"implementation for {type_name(cls)}", True, True), implementation
        return
    for name in _global_names(fn.__code__):
        if name in fn.__globals__:
            value = fn.__globals__[name]
            if is_code(value) and not isinstance(value, type):
                yield Step(f"calls {name}()", f"global {name!r}", True, True), value
            else:
                yield Step(f"uses the global {name!r}", f"global {name!r}", True), value
    outer = fn.__qualname__.rpartition(".<locals>")[0].rpartition(".")[2]
    of = f" of the enclosing function {outer!r}" if outer else " of the enclosing function"
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False):
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if isinstance(value, types.FunctionType | types.MethodType):
            yield Step(f"calls {name}(){of}", f"variable {name!r}", True, True), value
        else:
            yield Step(f"uses the variable {name!r}{of}", f"variable {name!r}", True), value
    for name, value in _defaults(fn):
        text = f"has a default for the parameter {name!r}"
        yield Step(text, f"default {name!r}", True), value
    for name, value in vars(fn).items():
        yield Step(f"has the attribute {name!r}", f"attribute {name!r}", True), value
    for name, value in fn.__annotations__.items():
        yield Step(f"has an annotation for {name!r}", f"annotation {name!r}", True), value


def _defaults(fn: types.FunctionType) -> Iterator[tuple[str, object]]:
    code, defaults = fn.__code__, fn.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    yield from zip(names[len(names) - len(defaults) :], defaults, strict=False)
    yield from (fn.__kwdefaults__ or {}).items()


def _global_names(code: types.CodeType) -> dict[str, None]:
    names: dict[str, None] = {}
    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBAL_READS:
            names[str(instruction.argval)] = None
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.update(_global_names(constant))
    return names


def _class_parts(cls: type) -> Iterator[_Part]:
    for base in cls.__bases__:
        yield Step(f"base class {type_name(base)}", base.__name__, names_value=True), base
    for name, value in vars(cls).items():
        if name in ("__dict__", "__weakref__"):
            continue
        if isinstance(value, types.FunctionType | staticmethod | classmethod | property):
            yield Step(f"method {name}()", f"method {name!r}", names_value=True), value
        else:
            text = f"class attribute {name!r} of {type_name(cls)}"
            yield _data_step(text, f"attribute {name!r}", value), value


def _mapping_parts(mapping: Any) -> Iterator[_Part]:
    for key, value in mapping.items():
        label = f"[{_repr(key)}]"
        yield Step(f"key {_repr(key)}", f"key {_repr(key)}"), key
        yield _data_step(f"item {label}", label, value), value


def _sequence_parts(sequence: Any) -> Iterator[_Part]:
    is_ordered = isinstance(sequence, list | tuple)
    for index, value in enumerate(sequence):
        text = f"item [{index}]" if is_ordered else f"a member of the {type(sequence).__name__}"
        yield _data_step(text, f"[{index}]" if is_ordered else "member", value), value


def _instance_parts(obj: object) -> Iterator[_Part]:
    reduced = _reduce(obj)
    if not isinstance(reduced, tuple):
        return
    kind = type_name(type(obj))
    padded = (*reduced, None, None, None, None)
    _, args, state, items, pairs = padded[:5]
    if isinstance(state, dict):
        yield from _attributes(state, obj, kind)
    elif isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        yield from _attributes(state[0] or {}, obj, kind)
        yield from _attributes(state[1], obj, kind)
    elif state is not None:
        yield Step(f"the state of {kind}", "state"), state
    if items is not None:
        yield from _sequence_parts(list(items))
    if pairs is not None:
        yield from _mapping_parts(dict(pairs))
    for value in args or ():
        if value is type(obj):
            yield Step(f"its class {kind}", f"class {kind}", names_value=True), value
        else:
            yield _data_step(f"a part of {kind}", "part", value), value


def _reduce(obj: object) -> object:
    """Return pickle's reduction of ``obj``, or None if it refuses."""
    try:
        reduce = reducers.way_of(type(obj))
        if reduce is not None:
            return reduce(reducers.FirstMet(), obj)
        registered = copyreg.dispatch_table.get(type(obj))
        return registered(obj) if registered is not None else obj.__reduce_ex__(5)
    except Exception:
        return None


def _attributes(state: Any, obj: object, kind: str) -> Iterator[_Part]:
    if not isinstance(state, dict):
        yield Step(f"the state of {kind}", "state"), state
        return
    # Users cannot change the internals of a library's objects, so the search stops at the object.
    module = type(obj).__module__
    is_ours = module == "__main__" or is_local_module(module) or module not in sys.modules
    for name, value in state.items():
        if str(name).startswith("_") and not is_ours:
            continue
        yield _data_step(f"attribute {str(name)!r} of {kind}", f"attribute {name!r}", value), value


def _data_step(text: str, label: str, value: object) -> Step:
    if is_code(value) and inspect.isroutine(value):
        return Step(f"{text}, {noun(value)}", label, names_value=True)
    return Step(text, label)


def _code_step(verb: str, fn: object) -> Step:
    name = noun(fn) if is_code(fn) else with_type(fn)
    return Step(f"{verb} {name}", name, is_verb=True, names_value=True)


def with_type(obj: object) -> str:
    """Describe the type of ``obj`` in words."""
    return f"an object of the type {type_name(type(obj))}"


def _repr(key: object) -> str:
    try:
        return clean_text(repr(key), 60)
    except Exception:
        return f"<{type(key).__name__}>"
