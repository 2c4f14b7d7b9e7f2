"""Give child processes of tasks the code and modules of the task's call.

``multiprocessing`` and joblib start a child by running the parent's main program again, which in
an executor is not the user's. Instead the child gets the stored function, and makes the modules of
the call from it. A forked child has them already.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types
from collections.abc import Callable
from typing import Any

from nbqueue.calls import functions
from nbqueue.calls.modules import active_modules
from nbqueue.calls.modules.call_loader import load_into
from nbqueue.calls.modules.module_set import ModuleSet
from nbqueue.calls.pickling import pickler

_STARTERS = frozenset(
    {
        "multiprocessing.spawn",
        "joblib.externals.loky.backend.spawn",
        "loky.backend.spawn",
    }
)


def install() -> None:
    """Prepare ``multiprocessing``, joblib and cloudpickle, now or when they are imported."""
    active_modules.keep_newest()
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for name, module in list(sys.modules.items()):
        if _is_wanted(name):
            _prepare(module)


def _is_wanted(name: str) -> bool:
    return name in _STARTERS or name.endswith("cloudpickle.cloudpickle")


def _prepare(module: types.ModuleType) -> None:
    space = vars(module)
    if module.__name__ in _STARTERS:
        get = space.get("get_preparation_data")
        if get is not None and not hasattr(get, "is_of_nbqueue"):
            space["get_preparation_data"] = _with_call(get)
    elif isinstance(space.get("_PICKLE_BY_VALUE_MODULES"), set):
        active_modules.add_by_value(space["_PICKLE_BY_VALUE_MODULES"])


def _with_call(get: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def get_preparation_data(*args: Any, **kwargs: Any) -> dict[str, Any]:
        data = get(*args, **kwargs)
        data.pop("init_main_from_name", None)
        data.pop("init_main_from_path", None)
        modules = active_modules.current()
        if modules is not None and "name" in data:
            data["name"] = _Name(data["name"]).with_modules(modules, data.get("sys_path"))
        return data

    get_preparation_data.is_of_nbqueue = True  # type: ignore[attr-defined]
    return get_preparation_data


class _Name(str):
    """The name of a child process; unpickling it makes the call's modules."""

    __slots__ = ("_parts",)

    def with_modules(self, modules: ModuleSet, path: list[str] | None) -> _Name:
        function = modules.parent or modules
        beside = b"" if modules is function else _dump_names(modules)
        self._parts = str(self), path, function.blob, beside
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return begin_child, self._parts


def _dump_names(modules: ModuleSet) -> bytes:
    """Pickle the functions and classes of the arguments, as far as possible."""
    trial = pickler.Trial()
    names = {key: value for key, value in modules.names.items() if trial.error_of(value) is None}
    return pickler.dump(names, with_needs=True).data


def begin_child(name: str, path: list[str] | None, blob: bytes, beside: bytes) -> str:
    """Make the modules of the parent's call in a new child.

    Returns the name of the child process.
    """
    if path is not None:
        sys.path[:] = path
    modules = functions.load_code(blob).modules if blob else ModuleSet()
    if beside:
        modules = ModuleSet(parent=modules)
        modules.names.update(load_into(beside, modules))
    install()
    active_modules.enter(modules)
    return name


class _Finder:
    """Prepares the modules of ``multiprocessing``, joblib and cloudpickle on their import."""

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not _is_wanted(name):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            execute(module)
            _prepare(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
