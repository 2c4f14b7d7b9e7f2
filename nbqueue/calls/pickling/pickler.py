"""Pickle notebook code and local modules by value, everything else by reference.

Each object is decided on its own. cloudpickle's registry of modules to pickle by value is global to
the process, which a kernel shares with other libraries; it is never changed here.

The functions of a local module keep their module: on the worker they share one namespace, which is
also that of the module object, if that is sent as well. A module object is sent with all of its
names that can be sent; reading another one raises an error with the reason.

Local modules that the code imports when it runs are sent as well: as they are imported here, or as
the source in their files. An ``import`` of a computed name is not covered.
"""

from __future__ import annotations

import functools
import io
import math
import pickle
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from cloudpickle import cloudpickle

from nbqueue.calls import rebuild
from nbqueue.calls.modules.lazy_imports import SourceModule, has_source
from nbqueue.calls.modules.needed_modules import Names, Needs
from nbqueue.calls.modules.notebook_definitions import definitions, is_reader
from nbqueue.calls.pickling import class_state, random_generators, reducers
from nbqueue.calls.pickling.local_modules import installed_method, is_at, is_local, is_local_module
from nbqueue.runtime.buffers import LARGE, Body, ChunkedBytes

PROTOCOL = 5

_BASE_NAMES = ("__name__", "__package__", "__path__", "__file__", "__doc__")
# Names that the import system sets in a module, without meaning in a copy.
_IMPORT_NAMES = frozenset(
    {*_BASE_NAMES, "__builtins__", "__cached__", "__loader__", "__spec__", "__warningregistry__"}
)
# Names that nbqueue sets in a copy.
_OUR_NAMES = frozenset({rebuild.LEFT_OUT, rebuild.MODULES, rebuild.DETACHED})
# Larger top-level values of a module that is imported late are created on the worker.
_MOST_OF_A_NAME = 1_000_000
_MOST_OF_A_DEFINITION = 262_144
# The position of the file name among the arguments of a code object.
_FILE = 10
_LruCache = type(functools.lru_cache(lambda: None))


class _Shell:
    """Represents the empty copy of a local module in a pickle."""

    __slots__ = ("module",)

    def __init__(self, module: types.ModuleType) -> None:
        self.module = module


class _Globals:
    """Represents the namespace of such a copy in a pickle."""

    __slots__ = ("shell",)

    def __init__(self, shell: _Shell) -> None:
        self.shell = shell


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles one object for another process.

    After ``dump``, ``by_value`` is True if the bytes contain code, which only this minor version of
    Python can load, ``files`` names the files that this code came from, and ``generators`` are the
    random generators whose state was copied. ``known`` names local modules that the receiver has,
    so that `dump_needs` leaves them out.
    """

    generators: tuple[object, ...] = ()

    def __init__(
        self, file: Any, *, is_trial: bool = False, known: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self.by_value = False
        self.files: dict[str, None] = {}
        self._is_trial = is_trial
        self._is_late = False
        self.needs = Needs(known)
        self._shells: dict[int, _Shell] = {}
        self._trial: Trial | None = None
        self._begun: dict[int, object] = {}
        self._ways: dict[type, _Reducer | None] = _WAYS.copy()

    def dump_needs(self) -> None:
        """Append values that the code looks up at run time, in separate pickles.

        Older versions of nbqueue do not read them.
        """
        self._is_late = True
        while batch := self.needs.take():
            self.dump(batch)

    def dump_definitions(self) -> None:
        """Append the notebook's definitions, except large ones and those that cannot be sent."""
        trial = Trial()
        for value in definitions():
            if trial.error_of(value) is None and trial.size <= _MOST_OF_A_DEFINITION:
                self.needs.add(value)
        self.dump_needs()

    def reducer_override(self, obj: Any) -> Any:
        """Reduce ``obj``; called for all objects except the plainest builtin types."""
        kind = type(obj)
        if kind is types.FunctionType:
            return self._reduce_function(obj)
        try:
            reduce = self._ways[kind]
        except KeyError:
            reduce = self._ways[kind] = _way_of(kind)
        return NotImplemented if reduce is None else reduce(self, obj)

    def begins(self, obj: object) -> bool:
        """Return whether ``obj`` is new; otherwise it is nested within itself.

        Objects that are already pickled do not come here again.
        """
        is_first = id(obj) not in self._begun
        self._begun[id(obj)] = obj
        return is_first

    def _reduce_function(self, fn: types.FunctionType) -> Any:
        if reducers.is_single_dispatch(fn) and not reducers.is_importable(fn, fn.__qualname__):
            return reducers.reduce_single_dispatch(fn)
        if is_local_module(fn.__module__):
            reduced = self._dynamic_function_reduce(fn)
        else:
            reduced = super().reducer_override(fn)
            if reduced is NotImplemented:
                return reduced
            method = installed_method(fn)
            if method is not None:
                return method
        self.by_value = True
        self.files[fn.__code__.co_filename] = None
        if not self._is_trial:
            self.needs.add_function(fn)
        return reduced

    def _reduce_class(self, cls: type) -> Any:
        if is_local_module(cls.__module__) or class_state.is_ours_by_value(cls):
            reduced = class_state.reduce_class(cls)
        else:
            reduced = super().reducer_override(cls)
            if reduced is NotImplemented or len(reduced) != 6:
                return reduced
        self.by_value = True
        if not self._is_trial:
            rebuild.note_sent_class(cls)
            self._note_module_of(cls)
            self.needs.add_class(cls)
        maker, args, state = reduced[:3]
        state = class_state.complete_state(cls, state)
        maker, args = self._with_names(cls, maker, args)
        return rebuild.make_class, (maker, *args), state, None, None, rebuild.set_class

    def _note_module_of(self, cls: type) -> None:
        """Send the module of a class, because pickle looks there for the class."""
        module = sys.modules.get(cls.__module__)
        if module is not None and id(vars(module)) not in self._shells and is_local(module):
            self.needs.add(self._shell_of(module))

    def _with_names(self, cls: type, maker: Any, args: tuple[Any, ...]) -> tuple[Any, Any]:
        if maker is cloudpickle._make_skeleton_class and "<locals>" not in cls.__qualname__:
            # Pickle looks for the class under this name.
            args[3].setdefault("__qualname__", cls.__qualname__)
        module = sys.modules.get(cls.__module__)
        if isinstance(module, rebuild.LocalModule) and is_at(module, cls.__qualname__, cls):
            # Where the module can be imported, its own class is used.
            file = vars(module).get("__file__", "")
            tracker = cloudpickle._get_or_create_tracker_id(cls)
            args = (module.__name__, file, cls.__qualname__, tracker, maker, *args)
            maker = rebuild.named_class
        return maker, args

    def _reduce_module(self, module: types.ModuleType) -> Any:
        if not (isinstance(module, rebuild.LocalModule) or is_local(module)):
            return NotImplemented
        self.by_value = True
        shell = self._shell_of(module)
        if self._is_trial:  # a module is examined once, not in each trial
            return rebuild.whole_module, (shell,)
        state = self._portable_names(module)
        file = vars(module).get("__file__")
        if isinstance(file, str):
            self.files[file] = None
        return rebuild.whole_module, (shell,), state, None, None, rebuild.set_module

    def _reduce_generator(self, obj: Any) -> Any:
        reduced = random_generators.reduce_by_name(obj)
        if reduced is None:
            if random_generators.has_own_state(obj):
                self.generators += (obj,)
            return NotImplemented
        return reduced

    def _portable_names(self, module: types.ModuleType) -> tuple[dict[str, Any], dict[str, str]]:
        if self._trial is None:
            self._trial = Trial()
        names: dict[str, Any] = {}
        left_out = dict(vars(module).get(rebuild.LEFT_OUT, {}))
        most = _MOST_OF_A_NAME if self._is_late and has_source(module) else None
        for name, value in list(vars(module).items()):
            if name in _IMPORT_NAMES or name in _OUR_NAMES:
                continue
            error = self._trial.error_of(value)
            if error is None and most is not None and self._trial.size > most:
                left_out[name] = f"it is larger than {most:,} bytes"
            elif error is None:
                names[name] = value
            else:
                left_out[name] = f"{type(error).__name__}: {error}"[:500]
        return names, left_out

    def _shell_of(self, module: types.ModuleType) -> _Shell:
        key = id(vars(module))
        shell = self._shells.get(key)
        if shell is None:
            shell = self._shells[key] = _Shell(module)
            parent = sys.modules.get(module.__name__.rpartition(".")[0])
            if parent is not None and not self._is_trial and is_local(parent):
                # pickle imports the parent packages of a module.
                if id(vars(parent)) not in self._shells:
                    self.needs.add(self._shell_of(parent))
                file = vars(parent).get("__file__")
                if isinstance(file, str):
                    self.files[file] = None
        return shell

    def _function_getnewargs(self, fn: types.FunctionType) -> Any:
        # cloudpickle looks here for the namespace of the copy, and uses one that is already in
        # globals_ref.
        names = fn.__globals__
        if id(names) not in self.globals_ref:
            module = sys.modules.get(names.get("__name__", ""))
            if module is None or vars(module) is not names:
                pass  # a namespace without a module
            elif is_local(module) or module.__name__ == "__main__":
                self.globals_ref[id(names)] = _Globals(self._shell_of(module))
        code, space, name, defaults, closure = super()._function_getnewargs(fn)
        module = sys.modules.get(fn.__module__)
        if module is not None and is_at(module, fn.__qualname__, fn):
            name = fn.__qualname__  # the copy is found under the original's name
        return code, space, name, defaults, closure

    def _reduce_output(self, obj: Any) -> Any:
        if obj is sys.stdout or obj is sys.stderr:
            return getattr, (sys, "stdout" if obj is sys.stdout else "stderr")
        reduce = _way_of_data(type(obj))
        return NotImplemented if reduce is None else reduce(self, obj)

    def _refuse_file(self, obj: Any) -> Any:
        # cloudpickle would send the contents of an open text file.
        raise pickle.PicklingError(f"cannot pickle {type(obj).__name__!r} object: an open file")

    def _reduce_shell(self, shell: _Shell) -> Any:
        names = vars(shell.module)
        base = {name: names[name] for name in _BASE_NAMES if name in names}
        if "__path__" in base:  # the one of a namespace package tracks sys.path
            base["__path__"] = [str(folder) for folder in base["__path__"]]
        if sys.modules.get(shell.module.__name__) is not shell.module:
            base[rebuild.DETACHED] = True
        return rebuild.make_module, (shell.module.__name__, base)

    def _reduce_globals(self, names: _Globals) -> Any:
        return rebuild.module_globals, (names.shell,)

    def _reduce_source(self, module: SourceModule) -> Any:
        return rebuild.add_source, tuple(module)

    def _reduce_names(self, names: Names) -> Any:
        if self._trial is None:
            self._trial = Trial()
        values = {k: v for k, v in names.values.items() if self._trial.error_of(v) is None}
        return rebuild.add_names, (self._shell_of(names.module), values)

    def _reduce_cache(self, cached: Any) -> Any:
        if not reducers.travels(cached.__module__):
            return NotImplemented
        names = {k: v for k, v in vars(cached).items() if k not in ("__wrapped__", "__dict__")}
        parameters = cached.cache_parameters() if hasattr(cached, "cache_parameters") else {}
        names.pop("cache_parameters", None)
        return rebuild.make_cache, (cached.__wrapped__, parameters, names)

    def _reduce_cached_property(self, made: Any) -> Any:
        return rebuild.make_cached_property, (made.func, made.attrname)

    def _reduce_new_type(self, made: Any) -> Any:
        if not reducers.travels(made.__module__):
            return NotImplemented
        return rebuild.make_new_type, (made.__name__, made.__supertype__, made.__module__)

    def _reduce_code(self, code: types.CodeType) -> Any:
        self.by_value = True
        make, args = cloudpickle._code_reduce(code)
        # cloudpickle 3.1.3 replaces the file name, so that tracebacks find no source.
        return make, (*args[:_FILE], code.co_filename, *args[_FILE + 1 :])


_Reducer = Callable[[Pickler, Any], Any]

_REDUCERS: dict[type, _Reducer] = {
    **reducers.REDUCERS,
    _Shell: Pickler._reduce_shell,
    _Globals: Pickler._reduce_globals,
    SourceModule: Pickler._reduce_source,
    Names: Pickler._reduce_names,
    _LruCache: Pickler._reduce_cache,
    functools.cached_property: Pickler._reduce_cached_property,
    typing.NewType: Pickler._reduce_new_type,
    types.CodeType: Pickler._reduce_code,
}


_WAYS: dict[type, _Reducer | None] = {**_REDUCERS, type: Pickler._reduce_class}


def _way_of(kind: type) -> _Reducer | None:
    """Return the reducer for objects of this type; None leaves it to pickle."""
    if issubclass(kind, type):
        return Pickler._reduce_class
    if issubclass(kind, types.ModuleType):
        return Pickler._reduce_module
    if kind is type(sys.stdout) or kind is type(sys.stderr):
        return Pickler._reduce_output
    return _way_of_data(kind)


def _way_of_data(kind: type) -> _Reducer | None:
    if issubclass(kind, io.IOBase) and not issubclass(kind, io.BytesIO | io.StringIO):
        return Pickler._refuse_file
    if kind not in random_generators.OTHERS and random_generators.is_generator_type(kind):
        return Pickler._reduce_generator
    return reducers.way_of(kind)


class Trial:
    """Pickles objects on trial, to find those that cannot be pickled; the bytes are not kept.

    Objects that passed are remembered, so that testing the parts of a large object costs about as
    much as testing it once.
    """

    def __init__(self) -> None:
        self._sink = _Sink()
        self._pickler = Pickler(self._sink, is_trial=True)

    @property
    def size(self) -> int:
        """The size of the last object in bytes."""
        return self._sink.size

    def error_of(self, obj: Any) -> Exception | None:
        """Return why ``obj`` cannot be pickled, or None if it can."""
        self._sink.size = 0
        try:
            self._pickler.dump(obj)
        except MemoryError:
            raise
        except Exception as error:
            # The old memo contains objects that were only written in part.
            self._pickler = Pickler(self._sink, is_trial=True)
            return error
        return None


class Pickled(NamedTuple):
    """A pickled object and what the `Pickler` found in it.

    ``imports`` names the local modules that were sent because the code imports them.
    """

    data: bytes
    by_value: bool
    files: tuple[str, ...]
    imports: frozenset[str] = frozenset()
    generators: tuple[object, ...] = ()


class TooLarge(Exception):
    """Raised when a pickle exceeds its maximum size."""


class _LimitedFile(io.BytesIO):
    """A file object that raises before it exceeds its limit."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.left = limit

    def write(self, data: Any) -> int:
        self.left -= len(data) if isinstance(data, bytes) else memoryview(data).nbytes
        if self.left < 0:
            raise TooLarge
        return super().write(data)


def dump(obj: Any, *, with_needs: bool = False, known: frozenset[str] = frozenset()) -> Pickled:
    """Pickle ``obj``; ``with_needs`` adds what its code looks up by name.

    Raises the first error that pickling meets; `preflight` explains it.
    """
    with io.BytesIO() as file:
        pickler = Pickler(file, known=known)
        pickler.dump(obj)
        if with_needs:
            pickler.dump_needs()
        return _pickled(file, pickler)


def dump_function(fn: Any, limit: int | None = None) -> Pickled:
    """Pickle a function with everything that its code may look up by name.

    Raises `TooLarge` as soon as that exceeds ``limit`` bytes.
    """
    with _LimitedFile(math.inf if limit is None else limit) as file:
        pickler = Pickler(file)
        pickler.dump(fn)
        pickler.dump_needs()
        if pickler.needs.reads_pickles or is_reader(fn):
            file.left = math.inf  # each of these has its own limit
            pickler.dump_definitions()
        return _pickled(file, pickler)


def _pickled(file: io.BytesIO, pickler: Pickler) -> Pickled:
    return Pickled(
        file.getvalue(),
        pickler.by_value,
        tuple(pickler.files),
        frozenset(pickler.needs.imports),
        pickler.generators,
    )


class Collector:
    """A file object for a pickler that keeps large parts separate.

    These are copied only once.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> None:
        self._parts.append(data if type(data) is bytes else bytes(data))

    def body(self) -> Body:
        """Return what was written; joined if it is small."""
        body = ChunkedBytes(*self._parts)
        return body if len(body) > LARGE else bytes(body)


class _Sink:
    def __init__(self) -> None:
        self.size = 0

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)
