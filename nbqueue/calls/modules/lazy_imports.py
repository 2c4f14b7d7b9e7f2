"""Find the local modules that code imports when it runs, without running it.

Found are ``import`` statements inside functions, classes and comprehensions with the names that
they import, and constant names given to ``importlib.import_module``, ``__import__`` and functions
that look for a module or for files in a package. Computed names are not found.
"""

from __future__ import annotations

import dis
import functools
import importlib.machinery
import importlib.util
import os
import re
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

from nbqueue.calls.pickling.local_modules import is_installed_path, is_local

_IMPORT_NAME = dis.opmap["IMPORT_NAME"]
_IMPORTERS = frozenset(
    {"import_module", "__import__", "find_spec", "files", "get_data", "run_module"}
)
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")
_MOST_TEXT = 4_000_000


class Import(NamedTuple):
    """One import: ``from ..a import b, c`` is ``("a", 2, ("b", "c"))``."""

    name: str
    level: int
    names: tuple[str, ...]


class SourceModule(NamedTuple):
    """A local module that was not imported: its current source file."""

    name: str
    file: str | None
    folders: tuple[str, ...] | None
    text: str


class Facts(NamedTuple):
    """The imports of code, and the names of globals and attributes in it."""

    imports: tuple[Import, ...]
    names: frozenset[str]


_facts: weakref.WeakKeyDictionary[types.CodeType, Facts] = weakref.WeakKeyDictionary()
_installed: set[str] = set()


def facts_of(code: types.CodeType) -> Facts:
    """Return the `Facts` of ``code`` and of the code that it defines."""
    found = _facts.get(code)
    if found is None:
        imports = tuple(dict.fromkeys(_read_imports(code)))
        found = _facts[code] = Facts(imports, frozenset(_read_names(code)))
    return found


def _read_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _read_names(constant)


def _read_imports(code: types.CodeType) -> Iterator[Import]:
    if _IMPORT_NAME in code.co_code[::2]:
        before: list[Any] = [0, None]
        for instruction in dis.get_instructions(code):
            if instruction.opcode == _IMPORT_NAME:
                level, names = before
                yield Import(instruction.argval, int(level or 0), tuple(names or ()))
            elif instruction.opname.startswith("LOAD_"):
                before = [before[1], instruction.argval]
    if not _IMPORTERS.isdisjoint(code.co_names):
        for constant in code.co_consts:
            if type(constant) is str and _DOTTED.match(constant):
                yield Import(constant, 0, ())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _read_imports(constant)


def local_imports(
    code: types.CodeType, package: str | None
) -> Iterator[types.ModuleType | SourceModule]:
    """Yield the local modules that ``code`` in ``package`` imports when it runs.

    Packages come before their modules. Modules that cannot be found are left out: the import may be
    optional.
    """
    for name in module_names(code, package):
        found = find_local(name)
        if found is not None:
            yield found


def module_names(code: types.CodeType, package: str | None) -> Iterator[str]:
    """Yield the absolute names that the imports of ``code`` may mean, packages first."""
    for each in facts_of(code).imports:
        name = each.name
        if each.level:
            try:
                name = importlib.util.resolve_name("." * each.level + name, package)
            except (ImportError, ValueError):
                continue
        root = name.partition(".")[0]
        if root in sys.stdlib_module_names or root in ("nbqueue", "__main__"):
            continue
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            yield ".".join(parts[:end])
        for attribute in each.names:
            yield f"{name}.{attribute}"


def is_settled(code: types.CodeType) -> bool:
    """Return whether everything that ``code`` imports is installed, and so never changes."""
    for name in module_names(code, None):
        root = name.partition(".")[0]
        module = sys.modules.get(root)
        if module is not None:
            if is_local(module):
                return False
        elif not _is_installed(root):
            return False
    return not any(each.level for each in facts_of(code).imports)


def find_local(name: str) -> types.ModuleType | SourceModule | None:
    """Return the local module ``name``: the imported module, or its file."""
    module = sys.modules.get(name)
    if module is not None:
        return module if is_local(module) else None
    root, _, rest = name.partition(".")
    folders: list[str] | None = None
    if rest:
        parent = find_local(name.rpartition(".")[0])
        if parent is None:
            return None
        given = parent.folders if isinstance(parent, SourceModule) else vars(parent).get("__path__")
        if given is None:
            return None
        folders = [str(folder) for folder in given]
    elif _is_installed(root):
        return None
    spec = _find_spec(name, folders)
    return None if spec is None else _source_of(name, spec)


def _find_spec(name: str, folders: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    """Find a module like an import does, but without importing its parents."""
    for fresh in (False, True):
        if fresh:
            if not any(_has_file(folder, name) for folder in folders or sys.path):
                return None
            importlib.invalidate_caches()  # the file is newer than the finders' caches
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            if find is None:
                continue
            try:
                spec: importlib.machinery.ModuleSpec | None = find(name, folders)
            except Exception:
                continue  # a finder of the user's failed
            if spec is not None:
                return spec
    return None


def _has_file(folder: str, name: str) -> bool:
    path = os.path.join(folder, name.rpartition(".")[2])
    return os.path.isfile(path + ".py") or os.path.isdir(path)


def _source_of(name: str, spec: importlib.machinery.ModuleSpec) -> SourceModule | None:
    places = spec.submodule_search_locations
    folders = None if places is None else tuple(str(folder) for folder in places)
    file = spec.origin
    if file is None or not spec.has_location:
        # A namespace package, which has no file of its own.
        if folders and all(os.path.isdir(f) and not is_installed_path(f) for f in folders):
            return SourceModule(name, None, folders, "")
        return None
    if not file.endswith(".py") or is_installed_path(file):
        return None
    text = read_text(file)
    return None if text is None else SourceModule(name, file, folders, text)


def read_text(file: str) -> str | None:
    """Return the source in ``file``, or None if it cannot be read."""
    try:
        if os.path.getsize(file) > _MOST_TEXT:
            return None
        with open(file, "rb") as opened:
            return importlib.util.decode_source(opened.read())
    except (OSError, UnicodeError, SyntaxError):
        return None


def has_source(module: types.ModuleType) -> bool:
    """Return whether the source of an imported module can be read."""
    file = vars(module).get("__file__")
    return isinstance(file, str) and read_text(file) is not None


@functools.lru_cache(maxsize=256)
def compiled(file: str, text: str) -> types.CodeType | None:
    """Compile a source, or return None if it has a syntax error."""
    try:
        return compile(text, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None


def _is_installed(root: str) -> bool:
    """Return whether the top-level module ``root`` is installed, though not imported here."""
    if root in sys.stdlib_module_names or root in _installed:
        return True
    spec = _find_spec(root, None)
    if spec is None:
        return False
    if spec.origin is not None and spec.has_location:
        found = not spec.origin.endswith(".py") or is_installed_path(spec.origin)
    else:
        found = all(is_installed_path(str(f)) for f in spec.submodule_search_locations or ())
    if found:  # only positive answers are cached: a missing module may appear later
        _installed.add(root)
    return found
