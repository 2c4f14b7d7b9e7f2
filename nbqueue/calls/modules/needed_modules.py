"""Find the values that code looks up by name, to send them."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

from nbqueue.calls.modules.lazy_imports import SourceModule, compiled, facts_of, local_imports
from nbqueue.calls.modules.notebook_definitions import reads_pickles
from nbqueue.calls.pickling.local_modules import is_local, is_local_module


class Names:
    """Names that code looks up in a module at run time, with values."""

    __slots__ = ("module", "values")

    def __init__(self, module: types.ModuleType, values: dict[str, Any]) -> None:
        self.module = module
        self.values = values


class Needs:
    """Collects the requirements of the functions and classes in one pickle.

    ``imports`` are local modules that the code imports when it runs; ``known`` names those that the
    receiver has. ``reads_pickles`` is set if the code uses a function that reads pickles.
    """

    def __init__(self, known: frozenset[str]) -> None:
        self.imports: dict[str, types.ModuleType | SourceModule] = {}
        self.reads_pickles = False
        self._known = known
        self._waiting: list[Any] = []
        self._hints: set[tuple[int, str]] = set()

    def add(self, needed: Any) -> None:
        """Add an object that is pickled on its own."""
        self._waiting.append(needed)

    def take(self) -> list[Any]:
        """Return what was added since the last call."""
        taken, self._waiting = self._waiting, []
        return taken

    def add_function(self, fn: types.FunctionType) -> None:
        """Add the requirements of a function by value."""
        if facts_of(fn.__code__).imports:
            self._add_code(fn.__code__, _package_of(fn.__globals__))
        self.reads_pickles = self.reads_pickles or reads_pickles(fn.__code__, fn.__globals__)
        if fn.__annotations__:
            self._add_hints(fn.__module__, fn.__annotations__)

    def add_class(self, cls: type) -> None:
        """Add the requirements of a class by value.

        Its methods are added as functions.
        """
        annotations = vars(cls).get("__annotations__")
        if annotations:
            self._add_hints(cls.__module__, annotations)

    def _add_code(self, code: types.CodeType, package: str) -> None:
        for found in local_imports(code, package):
            name = found.name if isinstance(found, SourceModule) else found.__name__
            if name in self.imports or name in self._known:
                continue
            self.imports[name] = found
            self._waiting.append(found)
            if isinstance(found, SourceModule):
                inner = compiled(found.file or "", found.text)
                if inner is not None:
                    folder = name if found.folders is not None else name.rpartition(".")[0]
                    self._add_code(inner, folder)

    def _add_hints(self, module_name: str, annotations: Mapping[str, Any]) -> None:
        """Add the classes in textual annotations, for `typing.get_type_hints`."""
        if not any(isinstance(each, str) for each in annotations.values()):
            return
        module = sys.modules.get(module_name)
        if module is None or not (module_name == "__main__" or is_local(module)):
            return
        space = vars(module)
        values: dict[str, Any] = {}
        for text in annotations.values():
            for name in _names_in(text):
                key = id(space), name
                if key not in self._hints and _is_hint(space.get(name)):
                    self._hints.add(key)
                    values[name] = space[name]
        if values:
            self._waiting.append(Names(module, values))


def _names_in(annotation: object) -> Iterator[str]:
    if isinstance(annotation, str) and len(annotation) < 1_000:
        try:
            yield from compile(annotation, "<annotation>", "eval").co_names
        except (SyntaxError, ValueError):
            pass


def _is_hint(value: object) -> bool:
    """Return whether ``value`` is a class or module that every worker finds."""
    if isinstance(value, types.ModuleType):
        return value.__name__.partition(".")[0] in sys.stdlib_module_names
    name = getattr(value, "__module__", None)
    if not isinstance(name, str) or not isinstance(value, type):
        return name == "typing"
    root = name.partition(".")[0]
    return root == "__main__" or root in sys.stdlib_module_names or is_local_module(name)


def _package_of(names: Mapping[str, Any]) -> str:
    """Return the package from which relative imports in this namespace start."""
    package = names.get("__package__")
    if isinstance(package, str):
        return package
    name = str(names.get("__name__", ""))
    return name if "__path__" in names else name.rpartition(".")[0]
