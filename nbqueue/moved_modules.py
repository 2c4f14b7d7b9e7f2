"""Aliases of old module paths that stored pickles may contain.

A pickle contains the module of each function and class that it refers to. Tasks and results stored
by version 0.1 contain these paths; a schedule may keep its pickle for years. So the aliases stay
until version 2.0. What has moved is still pickled under its old path (`pickled_as`), so older
programs can load it, and the digest of arguments, which names the lock of a unique task, stays the
same. Only `PlotMissing` and `WorkerDidNotStart`, which were in other modules than `nbqueue.errors`,
are pickled under a name that version 0.1 lacks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")

MOVED = {
    "nbqueue.broker.infos": "nbqueue.broker.reads.models",
    "nbqueue.client.groups": "nbqueue.client.futures.group",
    "nbqueue.client.inspector": "nbqueue.client.inspection.inspector",
    "nbqueue.client.limits": "nbqueue.client.inspection.limits",
    "nbqueue.client.output": "nbqueue.client.results.output",
    "nbqueue.client.progress": "nbqueue.client.results.reported_progress",
    "nbqueue.client.selection": "nbqueue.client.inspection.task_filter",
    "nbqueue.client.submit": "nbqueue.client.submitting.submitter",
    "nbqueue.client.together": "nbqueue.client.futures.wait",
    "nbqueue.executor.aggregation": "nbqueue.tasks.aggregation_group",
    "nbqueue.executor.context": "nbqueue.tasks.task",
    "nbqueue.executor.periodic": "nbqueue.tasks.periodic",
    "nbqueue.executor.policy": "nbqueue.tasks.retry_policy",
    "nbqueue.executor.progress": "nbqueue.executor.output.progress",
    "nbqueue.executor.randomness": "nbqueue.executor.seeded_random",
    "nbqueue.executor.reports": "nbqueue.executor.output.task_reports",
}
"""Old module paths and their new ones."""

_INTO_PACKAGES = {
    "nbqueue.client.futures": "nbqueue.client.futures.future",
    "nbqueue.client.schedules": "nbqueue.client.schedules.schedule",
}
"""Old module paths that are packages now."""


def pickled_as(module: str) -> Callable[[T], T]:
    """Pickle a function or class under its module path of version 0.1."""

    def name(made: T) -> T:
        made.__module__ = module
        import_module(module)  # cloudpickle only refers to objects in loaded modules
        return made

    return name


def attribute_of(package: str, name: str) -> Any:
    """Return an attribute that a package had as a module, or raise `AttributeError`."""
    try:
        return getattr(import_module(_INTO_PACKAGES[package]), name)
    except AttributeError:
        raise AttributeError(f"module {package!r} has no attribute {name!r}") from None


def install() -> None:
    """Make imports of the old paths find the modules. Called by ``import nbqueue``."""
    if not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.append(_Finder())


class _Finder:
    """Finds the old paths, after all other finders.

    So it does not slow down other imports.
    """

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MOVED else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None  # an ordinary module, which `exec_module` fills

    def exec_module(self, module: ModuleType) -> None:
        path = MOVED[module.__name__]
        # Not before it is used: `pickled_as` needs the old path while the new one is loading.
        module.__getattr__ = lambda name: getattr(import_module(path), name)  # type: ignore[method-assign]
