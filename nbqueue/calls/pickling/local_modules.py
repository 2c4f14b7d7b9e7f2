"""Which modules are the user's own, so that their code travels with a call.

A module is *local* when it is an ordinary source file that lies neither in the standard library
nor in a directory of installed packages. An editable install is local: it is being edited.
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
    """Say whether the imported module ``name`` is the user's own. ``__main__`` is not asked here.

    The answer is kept per module object: a module that is imported anew is looked at anew.
    """
    if type(name) is not str:
        return False
    module = sys.modules.get(name)
    return module is not None and is_local(module)


def is_local(module: types.ModuleType) -> bool:
    """Say the same of a module object, which need not be in ``sys.modules``."""
    try:
        answer = _known.get(module)
    except TypeError:  # programs put strange things into sys.modules
        return False
    if answer is None:
        answer = _known[module] = _decide(module)
    return answer


def note_local(module: types.ModuleType) -> None:
    """Let ``module``, which came with a call, count as the user's own wherever its file is."""
    _known[module] = True


def is_at(module: types.ModuleType, name: str, obj: object) -> bool:
    """Say whether ``module`` has ``obj`` under this name."""
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
    """Say whether ``path`` lies in the standard library or among installed packages."""
    real = os.path.realpath(path)
    if not _INSTALL_DIRECTORIES.isdisjoint(real.split(os.sep)):
        return True
    return not _INSTALL_DIRECTORIES.isdisjoint(path.split(os.sep)) or real.startswith(_roots())


def _decide(module: types.ModuleType) -> bool:
    if not isinstance(module, types.ModuleType):
        return False
    names = vars(module)
    name = names.get("__name__")
    # nbqueue is on every worker, and must not be replaced there by a copy, even where it is
    # installed from a checkout.
    if not isinstance(name, str) or name.partition(".")[0] in ("nbqueue", "__main__"):
        return False
    file = names.get("__file__")
    if isinstance(file, str):
        # A file that is not there lies in an archive; an extension has no code to send.
        return (
            os.path.isfile(file) and not file.endswith(_EXTENSIONS) and not is_installed_path(file)
        )
    try:
        folders = [str(folder) for folder in names.get("__path__", ())]
    except TypeError:
        return False
    # A namespace package has folders and no file of its own.
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
    """Return how the function in a class method of an installed class is got; None for others.

    Its name leads to the bound method: by that alone pickle would not find the function.
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
