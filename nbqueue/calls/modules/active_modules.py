"""Make the modules of running calls visible to ``import`` and ``pickle``.

An ``import`` in code that was sent with a call finds the modules of that call, even when two
versions of a module run side by side. ``pickle``, ``importlib.import_module`` and
``typing.get_type_hints`` look into ``sys.modules``, which holds the modules of the newest call. In
an executor they stay there until the next call. In any other process, where the user may have
modules with these names, they are removed when the call ends.
"""

from __future__ import annotations

import builtins
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import threading
import types
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from nbqueue.calls.rebuild import MODULES, LocalModule

if TYPE_CHECKING:
    from nbqueue.calls.modules.module_set import ModuleSet

_current: ContextVar[ModuleSet] = ContextVar("nbqueue.modules")
_newest: ModuleSet | None = None
_installed: dict[str, LocalModule] = {}
_replaced: dict[str, types.ModuleType] = {}
_by_value: list[set[str]] = []
_keeps_newest = False
_lock = threading.RLock()
_import = builtins.__import__
_import_module = importlib.import_module


def keep_newest() -> None:
    """Leave the modules of a call in ``sys.modules`` after it ends. For executors."""
    global _keeps_newest
    _keeps_newest = True


def current() -> ModuleSet | None:
    """Return the modules of this code's call, or of the newest call."""
    return _current.get(_newest)


def enter(modules: ModuleSet) -> None:
    """Let this thread or coroutine run a call with ``modules``, until `leave`.

    The modules of other running calls stay in ``sys.modules``, unless the newest call has modules
    with the same names.
    """
    _current.set(modules)
    modules.running.append(None)  # a list, because appending takes no lock
    if modules.parent is not None:
        modules.parent.running.append(None)
    if _newest is not modules:
        with _lock:
            _make_newest(modules)


def leave(modules: ModuleSet) -> None:
    """End a call that began with `enter`."""
    modules.running.pop()
    if modules.parent is not None:
        modules.parent.running.pop()
        with _lock:
            if _newest is modules:
                _make_newest(modules.parent)  # modules sent with arguments are not kept
    if not _keeps_newest:
        with _lock:
            _make_newest(None)


def _make_newest(modules: ModuleSet | None) -> None:
    global _newest
    _newest = modules
    wanted = {} if modules is None else modules.all_modules()
    for name, module in list(_installed.items()):
        if wanted.get(name) is not module and not vars(module)[MODULES].running:
            _uninstall(name, module)
    if modules is None:
        return
    for name, module in wanted.items():
        if sys.modules.get(name) is not module and not modules.is_waiting(name):
            install_module(name, module)


def add_by_value(names: set[str]) -> None:
    """Record in ``names`` the modules that other picklers must send by value."""
    _by_value.append(names)
    names.update(_names_by_value())


def _names_by_value() -> set[str]:
    return set(_installed) - {"__main__"}


def place(modules: ModuleSet, name: str, module: LocalModule) -> None:
    """Put a module of the newest call into ``sys.modules`` before its import."""
    with _lock:
        if _newest is not None and modules in (_newest, _newest.parent):
            install_module(name, module)


def install_module(name: str, module: LocalModule) -> None:
    """Put ``module`` into ``sys.modules`` until another call replaces it."""
    found = sys.modules.get(name)
    if found is not None and name not in _installed:
        _replaced[name] = found
    sys.modules[name] = module
    _installed[name] = module
    if name != "__main__":
        for names in _by_value:
            names.add(name)


def _uninstall(name: str, module: LocalModule) -> None:
    del _installed[name]
    for names in _by_value:
        names.discard(name)
    before = _replaced.pop(name, None)
    if sys.modules.get(name) is module:
        if before is not None:
            sys.modules[name] = before
        else:
            del sys.modules[name]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules of the running call, for ``importlib`` and ``pickle``."""

    def find_spec(
        self, name: str, path: Any = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        modules = current()
        module = None if modules is None else modules.get(name)
        return None if module is None else spec_of(module)


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module that was sent with a call.

    Its code is the code that was sent. Other files next to it are read from the sender's path.
    """

    def __init__(self, module: LocalModule, file: str) -> None:
        super().__init__(module.__name__, file)
        self._module = module

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return self._module

    def exec_module(self, module: types.ModuleType) -> None:
        install_module(module.__name__, self._module)
        vars(module)[MODULES].load(module.__name__)

    def get_source(self, fullname: str) -> str | None:
        text: str | None = vars(self._module)[MODULES].source_of(self._module)
        return text

    def get_code(self, fullname: str) -> types.CodeType:
        text = self.get_source(fullname)
        if text is None:
            raise ImportError(f"the source of {fullname} is not here", name=fullname)
        return compile(text, self.path, "exec", dont_inherit=True)


def spec_of(module: LocalModule) -> importlib.machinery.ModuleSpec:
    """Return the import spec of a module that was sent with a call."""
    names = vars(module)
    file, folders = names.get("__file__"), names.get("__path__")
    loader = _Loader(module, file if isinstance(file, str) else "")
    spec = importlib.machinery.ModuleSpec(module.__name__, loader, origin=file)
    spec.has_location = isinstance(file, str)
    spec.submodule_search_locations = folders
    return spec


_finder = _Finder()


def use_import_hook() -> None:
    """Install the import hook for code that was sent with calls."""
    global _import
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    if builtins.__import__ is not import_for_call:
        _import = builtins.__import__
        builtins.__import__ = import_for_call
        importlib.import_module = import_module_for_call


def import_module_for_call(name: str, package: str | None = None) -> types.ModuleType:
    """Import like `importlib.import_module`, from the modules of the current call."""
    modules = _current.get(None)
    if modules is not None:
        absolute = name if name[:1] != "." else importlib.util.resolve_name(name, package)
        found = modules.load(absolute)
        if found is not None:
            return found
    return _import_module(name, package)


def import_for_call(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Any = (),
    level: int = 0,
) -> types.ModuleType:
    """Import like ``__import__``, from the modules of the current call."""
    if globals is not None:
        modules = globals.get(MODULES)
        if modules is not None:
            found = modules.import_name(name, globals, fromlist or (), level)
            if found is not None:
                return found  # type: ignore[no-any-return]
    return _import(name, globals, locals, fromlist, level)
