"""Departures of the code from the rules of CONTRIBUTING.md, one line each.

A line names a place by module and function, never by line number, so that it stays the same while
code around it moves.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import grimp

import nbqueue

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "nbqueue"

MOST_LINES = 60
MOST_ARGUMENTS = 8
MOST_MODULES = 14

SAME_MEANING = {
    "__main__.py": "the program of a package",
    "limits.py": "limits on how many tasks run, and how often one starts",
    "presence.py": "which workers are alive, and the queues that they serve",
    "requirements.py": "requirements of tasks on workers",
    "timeouts.py": "time-outs and deadlines of attempts",
}
"""File names that occur in several rooms, and the one thing that each stands for."""

LATE = {
    ("nbqueue", "nbqueue.notebook.magics"): "`import nbqueue` loads next to nothing",
    ("nbqueue.cli", "nbqueue"): "a command loads only what it needs, so that it starts fast",
    ("nbqueue.testing.plugin", "nbqueue"): "pytest loads the plugin in every project",
    ("nbqueue.client", "nbqueue.views"): "a client that shows nothing loads nothing to show it",
    ("nbqueue.client", "nbqueue.notebook"): "live views need a notebook",
    ("nbqueue.worker.worker", "nbqueue.views"): "only a notebook shows the card of a worker",
    ("nbqueue.worker.worker", "nbqueue.store.connection"): "a worker is made without a store",
    ("nbqueue.worker.worker", "nbqueue.broker"): "a worker is made without a store",
    ("nbqueue.worker.__main__", "nbqueue.worker.lifecycle.serve"): "executors start meanwhile",
    ("nbqueue.executor.__main__", "nbqueue"): "handles signals before it loads anything slow",
    ("nbqueue.executor.health_check", "nbqueue"): "handles signals before it loads anything slow",
    ("nbqueue.store.connection", "nbqueue.store.embedded"): "other stores do not need it",
    ("nbqueue.tasks.periodic", "nbqueue.cron"): "executors load it, and read no schedules",
    ("nbqueue.notebook.magics", "nbqueue.client"): "`%load_ext nbqueue` is fast",
}
"""Importers and modules that they import in functions, with what that saves or makes possible.

An importer stands for the modules and functions inside it, too.
"""

METAPHORS = re.compile(
    r"\b(whoever|whomever|nobody|somebody|everybody|lies (in|at|on|beside|there)|(is|are) told"
    r"|which see|see there|speaks of|hears of)\b",
    re.IGNORECASE,
)
"""Words of a personal or figurative voice, which readers must translate into facts."""

OPENERS = re.compile(r"(What|Who|Whose|The same|Said|As above|See there)\b")
"""Beginnings of docstrings that do not name the thing or the action."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Callable = _Function | ast.Lambda
_BY_MACHINE = re.compile(r"_pb2\.py$")
_LUA_COMMENT = re.compile(r"--.*")
_LUA_FUNCTION = re.compile(r"\bfunction\b\s*([\w.:]*)\s*\(([^)]*)\)")
_LUA_END = re.compile(r"\bend\b")
_NAMES_ONLY = re.compile(r"(getLogger|get_data|files|pickled_as|module_command)$")
"""Functions that take the name of a module and do not import it."""
_LAYER_SEPARATOR = re.compile(r"[|:]")


def modules(root: Path = PACKAGE) -> Iterator[tuple[str, ast.Module]]:
    """Yield the dotted name and the syntax tree of each module of a package."""
    for path in sorted(root.rglob("*.py")):
        if not _BY_MACHINE.search(path.name):
            parts = path.relative_to(root.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, _parsed(path.read_text())


_parsed = cache(ast.parse)


def public_methods(tree: ast.AST) -> set[_Function]:
    """Methods that users call: those without a leading underscore of a class of ``nbqueue``."""
    return {
        method
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name in nbqueue.__all__
        for method in node.body
        if isinstance(method, _Function) and not method.name.startswith("_")
    }


@cache
def functions(tree: ast.AST) -> list[tuple[str, _Callable]]:
    """Return each function and lambda of a tree with its qualified name, nested ones too."""
    return _functions(tree, "")


def _functions(tree: ast.AST, prefix: str) -> list[tuple[str, _Callable]]:
    found: list[tuple[str, _Callable]] = []
    for node in ast.iter_child_nodes(tree):
        inside = prefix
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            name = prefix + ("<lambda>" if isinstance(node, ast.Lambda) else node.name)
            found.append((name, node))
            inside = f"{name}."
        elif isinstance(node, ast.ClassDef):
            inside = f"{prefix}{node.name}."
        found += _functions(node, inside)
    return found


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of functions inside it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield node
            yield from own_nodes(node)


def imports_by_name(tree: ast.AST, known: Container[str]) -> Iterator[tuple[str, str]]:
    """Yield the modules that calls name, such as ``import_module("nbqueue.errors")``.

    With each comes the function that calls, or "module". Tools that follow imports do not see them.
    """
    for name, function in (("module", tree), *functions(tree)):
        for node in own_nodes(function):
            first = node.args[0] if isinstance(node, ast.Call) and node.args else None
            if isinstance(first, ast.Constant) and "." in str(first.value) and first.value in known:
                assert isinstance(node, ast.Call)
                if not _NAMES_ONLY.search(ast.unparse(node.func)):
                    yield name, str(first.value)


def circles(root: Path = PACKAGE) -> set[str]:
    """Modules that import themselves by way of others, imports inside functions included."""
    with _importable(root):
        graph = grimp.build_graph(root.name, exclude_type_checking_imports=True, cache_dir=None)
    for module, tree in modules(root):
        for _, target in imports_by_name(tree, graph.modules):
            graph.add_import(importer=module, imported=target)
        for target in _homes(tree):
            graph.add_import(importer=module, imported=target)
    found = set()
    for module in graph.modules:
        around = graph.find_upstream_modules(module) & graph.find_downstream_modules(module)
        if around:
            found.add(f"circle: {module}")
    return found


def _homes(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that the names of a package load, see `nbqueue.lazy_names`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES":
            homes: dict[str, str] = ast.literal_eval(node.value)
            yield from (each for each in homes.values() if "." in each)


@contextmanager
def _importable(root: Path) -> Iterator[None]:
    sys.path.insert(0, str(root.parent))
    try:
        yield
    finally:
        sys.path.remove(str(root.parent))


def late_imports(root: Path = PACKAGE) -> set[str]:
    """Imports of modules of this project inside functions, unless `LATE` gives a reason."""
    package = root.name
    all_modules = dict(modules(root))
    found = set()
    for module, tree in all_modules.items():
        places = [
            (name, target)
            for name, function in functions(tree)
            for node in own_nodes(function)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for target in _targets(node, module, all_modules)
        ]
        places += imports_by_name(tree, all_modules)
        found |= {
            f"late import: {module}.{name} imports {target}"
            for name, target in places
            if target.split(".")[0] == package and not _is_late(module, target)
        }
    return found


def _targets(
    node: ast.Import | ast.ImportFrom, module: str, known: Container[str]
) -> Iterator[str]:
    """Yield the modules that a statement imports; a relative name counts from ``module``."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    above = module.split(".")[: -node.level] if node.level else []
    base = ".".join([*above, *filter(None, [node.module])])
    for alias in node.names:
        full = f"{base}.{alias.name}"
        yield full if full in known else base


def _is_late(module: str, target: str) -> bool:
    return any(
        f"{module}.".startswith(f"{importer}.") and f"{target}.".startswith(f"{imported}.")
        for importer, imported in LATE
    )


def unused_reasons(root: Path = PACKAGE) -> set[str]:
    """Entries of `LATE` and `SAME_MEANING` that allow nothing which exists."""
    global LATE
    allowed = LATE
    try:
        LATE = {}
        late = [line.split(" ")[2::2] for line in late_imports(root)]
    finally:
        LATE = allowed
    found = {
        f"unused reason: {importer} imports {imported}"
        for importer, imported in allowed
        if not any(
            f"{place}.".startswith(f"{importer}.") and f"{target}.".startswith(f"{imported}.")
            for place, target in late
        )
    }
    return found | {f"unused reason: {name}" for name in SAME_MEANING if _names(root)[name] < 2}


def long_functions(root: Path = PACKAGE) -> set[str]:
    """Functions of more than `MOST_LINES` lines, decorators not counted; in scripts, too."""
    return {
        f"long function: {module}.{name}"
        for module, tree in modules(root)
        for name, function in functions(tree)
        if (function.end_lineno or 0) - function.lineno + 1 > MOST_LINES
    } | {
        f"long function: {path.relative_to(root).as_posix()}: {name}"
        for path in root.rglob("*.lua")
        for name, _, lines in lua_functions(path.read_text())
        if lines > MOST_LINES
    }


def many_arguments(root: Path = PACKAGE) -> set[str]:
    """Functions that take more than `MOST_ARGUMENTS` arguments, ``self`` not counted.

    Nor are keyword-only arguments of public methods: each is a choice that a user makes by name.
    Functions that stored pickles call (`nbqueue.calls.rebuild` and its neighbours) keep theirs.
    """
    return {
        f"many arguments: {module}.{name}"
        for module, tree in modules(root)
        if not module.startswith("nbqueue.calls.rebuild")
        for name in with_many_arguments(tree)
    } | {
        f"many arguments: {path.relative_to(root).as_posix()}: {name}"
        for path in root.rglob("*.lua")
        for name, arguments, _ in lua_functions(path.read_text())
        if len(arguments) > MOST_ARGUMENTS
    }


def with_many_arguments(tree: ast.AST) -> list[str]:
    """Names of the functions of a module with more than `MOST_ARGUMENTS` arguments."""
    found = []
    public = public_methods(tree)
    for name, function in functions(tree):
        a = function.args
        counted = (*a.posonlyargs, *a.args, *(() if function in public else a.kwonlyargs))
        names = [arg.arg for arg in counted]
        if names and names[0] in ("self", "cls"):
            names = names[1:]
        if len(names) > MOST_ARGUMENTS:
            found.append(name)
    return found


def lua_functions(text: str) -> Iterator[tuple[str, list[str], int]]:
    """Yield the name, arguments and number of lines of each function of a script.

    A function ends at the first ``end`` that is indented like its first line.
    """
    lines = [_LUA_COMMENT.sub("", line) for line in text.splitlines()]
    for number, line in enumerate(lines):
        for match in _LUA_FUNCTION.finditer(line):
            name = match[1] or line.strip()
            arguments = [each for each in match[2].replace(" ", "").split(",") if each]
            end = re.compile(r"\s*" if _LUA_END.search(line, match.end()) else _end_of(line))
            length = next(i for i, each in enumerate(lines[number:], 1) if end.match(each))
            yield name, arguments, length


def _end_of(line: str) -> str:
    return line[: len(line) - len(line.lstrip())] + r"end\b"


def full_rooms(root: Path = PACKAGE) -> set[str]:
    """Folders of more than `MOST_MODULES` modules, not counting folders inside them."""
    count = Counter(path.parent for path in root.rglob("*.py") if path.stem != "__init__")
    return {
        f"full room: {'.'.join(folder.relative_to(root.parent).parts)}"
        for folder, modules_in_it in count.items()
        if modules_in_it > MOST_MODULES
    }


def same_names(root: Path = PACKAGE) -> set[str]:
    """File names that occur more than once, unless `SAME_MEANING` lists them."""
    return {
        f"same name: {name}"
        for name, count in _names(root).items()
        if count > 1 and name not in SAME_MEANING
    }


def _names(root: Path) -> Counter[str]:
    paths = [*root.rglob("*.py"), *root.rglob("*.lua")]
    return Counter(path.name for path in paths if path.name != "__init__.py")


def open_contracts(tables: list[dict[str, Any]], root: Path = PACKAGE) -> set[str]:
    """Modules at the top of the package that the import contracts leave out.

    The contract of layers names each of them. A contract whose name says "X only in A and B"
    forbids X in all others; "and above" adds the layers above A.
    """
    layers = [
        {name.strip() for name in _LAYER_SEPARATOR.split(layer)}
        for layer in next(each["layers"] for each in tables if each["type"] == "layers")
    ]
    children = {
        f"{root.name}.{path.stem}"
        for path in root.iterdir()
        if path.stem != "__init__" and (path.suffix == ".py" or [*path.glob("*.py")])
    }
    found = {f"open contract: layers lack {name}" for name in children - set().union(*layers)}
    for table in tables:
        what, only, places = table["name"].partition(" only in ")
        if not only:
            continue
        allowed = {f"{root.name}.{word}" for word in re.findall(r"\w+", places)}
        if places.endswith(" and above"):
            lowest = max(i for i, layer in enumerate(layers) if layer & allowed)
            allowed |= set().union(*layers[:lowest])
        for name in children - allowed - set(table["source_modules"]):
            found.add(f"open contract: {what} in {name}")
    return found


def metaphors() -> set[str]:
    """Docstrings and comments of a module, script or page that use words of `METAPHORS`."""
    found = set()
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.lua"), *(ROOT / "docs").glob("*.md")]:
        for text in _prose(path):
            for match in METAPHORS.finditer(" ".join(text.split())):
                found.add(f"metaphor: {path.relative_to(ROOT).as_posix()}: {match[0].lower()}")
    return found


def openers() -> set[str]:
    """Docstrings whose first words need the code below, or another docstring, to make sense."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(_parsed(path.read_text())):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                match = OPENERS.match(str(node.value.value))
                if match:
                    place = path.relative_to(ROOT).as_posix()
                    found.add(f"opener: {place}: {match[0]} (line {node.lineno})")
    return found


def _prose(path: Path) -> Iterator[str]:
    """Yield the docstrings and comments of a module, the comments of a script, or a page."""
    text = path.read_text()
    if path.suffix == ".md":
        yield text
    elif path.suffix == ".lua":
        yield "\n".join(_LUA_COMMENT.findall(text))
    else:
        for node in ast.walk(_parsed(text)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                yield str(node.value.value)
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield token.string
