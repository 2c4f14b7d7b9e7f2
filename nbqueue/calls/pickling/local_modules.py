"""Distinguish the user's local modules, whose code is sent, from installed ones.

A module is *local* if it is a plain source file outside the standard library and outside the
directories of installed packages. An editable install is local, because it is being edited.
"""

from __future__ import annotations

import functools
import importlib.machinery
import operator
import os
import site
import sys
import sysconfig
import types
import weakref
from typing import Any

_INSTALL_DIRECTORIES = frozenset({"site-packages", "dist-packages"})
_EXTENSIONS = tuple(importlib.machinery.EXTENSION_SUFFIXES)
_known: weakref.WeakKeyDictionary[types.ModuleType, bool] = weakref.WeakKeyDictionary()


def is_local_module(name: object) -> bool:
    """Return whether the imported module ``name`` is local. Not for ``__main__``.

    The answer is cached per module object, so a module that is imported anew is checked anew.
    """
    if type(name) is not str:
        return False
    module = sys.modules.get(name)
    return module is not None and is_local(module)


def is_local(module: types.ModuleType) -> bool:
    """Return whether a module object is local; it need not be in ``sys.modules``."""
    try:
        answer = _known.get(module)
    except TypeError:  # sys.modules may contain any object
        return False
    if answer is None:
        answer = _known[module] = _decide(module)
    return answer


def note_local(module: types.ModuleType) -> None:
    """Treat ``module`` as local wherever its file is.

    It was sent with a call.
    """
    _known[module] = True


def is_at(module: types.ModuleType, name: str, obj: object) -> bool:
    """Return whether ``module`` has ``obj`` under this name."""
    found: Any = module
    for part in name.split("."):
        try:
            found = vars(found)[part]
        except (TypeError, KeyError):
            return False
        if isinstance(found, staticmethod | classmethod):
            found = found.__func__
    return found is obj


def is_installed_path(path: str) -> bool:
    """Return whether ``path`` is in the standard library or among installed packages."""
    real = os.path.realpath(path)
    if not _INSTALL_DIRECTORIES.isdisjoint(real.split(os.sep)):
        return True
    return not _INSTALL_DIRECTORIES.isdisjoint(path.split(os.sep)) or real.startswith(_roots())


def _decide(module: types.ModuleType) -> bool:
    if not isinstance(module, types.ModuleType):
        return False
    names = vars(module)
    name = names.get("__name__")
    # nbqueue is installed on every worker and must not be replaced there by a copy, even when it is
    # installed from a checkout.
    if not isinstance(name, str) or name.partition(".")[0] in ("nbqueue", "__main__"):
        return False
    file = names.get("__file__")
    if isinstance(file, str):
        # A missing file is inside an archive; an extension has no source to send.
        return (
            os.path.isfile(file) and not file.endswith(_EXTENSIONS) and not is_installed_path(file)
        )
    try:
        folders = [str(folder) for folder in names.get("__path__", ())]
    except TypeError:
        return False
    # A namespace package has folders but no file of its own.
    return bool(folders) and all(os.path.isdir(f) and not is_installed_path(f) for f in folders)


@functools.lru_cache(maxsize=1)
def _roots() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = [paths.get(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders.append(os.path.dirname(os.__file__))
    folders.extend(getattr(site, "getsitepackages", list)())
    folders.append(getattr(site, "USER_SITE", None))
    return tuple({os.path.realpath(folder) + os.sep for folder in folders if folder})


def installed_method(fn: types.FunctionType) -> tuple[Any, ...] | None:
    """Reduce the function in a class method of an installed class.

    None for others.

    Its name refers to the bound method, so pickle would not find the function by name.
    """
    owner: Any = sys.modules.get(fn.__module__)
    if owner is None or owner.__name__ in ("__main__", "__mp_main__") or is_local(owner):
        return None
    *parts, name = fn.__qualname__.split(".")
    for part in parts:
        owner = getattr(owner, part, None)
    if getattr(getattr(owner, name, None), "__func__", None) is not fn:
        return None
    return operator.attrgetter(f"{name}.__func__"), (owner,)
