"""Departures of the code from the rules of CONTRIBUTING.md, one line each.

A line names a place by module and function, never by line number, so that it stays the same while
code around it moves.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grimp

import nbqueue

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "nbqueue"
TESTS = ROOT / "tests"

MOST_LINES = 60
MOST_ARGUMENTS = 8
MOST_MODULES = 14

SAME_MEANING = {
    "__main__.py": "the program of a package",
    "handoff.py": "handing a new task to an idle worker",
    "limits.py": "limits on how many tasks run, and how often one starts",
    "messages.py": "messages in Asynq's sense",
    "presence.py": "which workers are alive, and the queues that they serve",
    "requirements.py": "requirements of tasks on workers",
    "task_reports.py": "what a running task reports",
    "timeouts.py": "time-outs and deadlines of attempts",
}
"""File names that occur in several rooms, and the one thing that each stands for."""

METAPHORS = re.compile(
    r"\b(whoever|whomever|nobody|somebody|everybody|lies (in|at|on|beside|there)|(is|are) told"
    r"|which see|see there|speaks of|hears of)\b",
    re.IGNORECASE,
)
"""Words of a personal or figurative voice, which readers must translate into facts."""

OPENERS = re.compile(r"(What|Who|Whose|The same|Said|As above|See there)\b")
"""Beginnings of docstrings that do not name the thing or the action."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_BY_MACHINE = re.compile(r"_pb2\.py$")
_LUA_COMMENT = re.compile(r"--.*")
_LAYER_SEPARATOR = re.compile(r"[|:]")


def modules(root: Path = PACKAGE) -> Iterator[tuple[str, ast.Module]]:
    """Yield the dotted name and the syntax tree of each module of a package."""
    for path in sorted(root.rglob("*.py")):
        if not _BY_MACHINE.search(path.name):
            parts = path.relative_to(root.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, ast.parse(path.read_text(), str(path))


def public_methods(tree: ast.AST) -> set[_Function]:
    """Methods that users call: those without a leading underscore of a class of ``nbqueue``."""
    return {
        method
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name in nbqueue.__all__
        for method in node.body
        if isinstance(method, _Function) and not method.name.startswith("_")
    }


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, _Function]]:
    """Yield each function of a tree with its qualified name, nested ones too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _Function):
            yield prefix + node.name, node
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def circles(package: str = "nbqueue") -> set[str]:
    """Modules that import themselves by way of others, imports inside functions included."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    found = set()
    for module in graph.modules:
        around = graph.find_upstream_modules(module) & graph.find_downstream_modules(module)
        if around:
            found.add(f"circle: {module}")
    return found


def late_imports(rooms: tuple[str, ...] = ("client", "worker")) -> set[str]:
    """Imports inside functions of a module in the same package."""
    found = set()
    for module, tree in modules():
        room = ".".join(module.split(".")[:2])
        if room not in {f"nbqueue.{name}" for name in rooms}:
            continue
        for name, function in functions(tree):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and node.module:
                    targets = [node.module]
                    if node.module == room:
                        targets = [f"{room}.{alias.name}" for alias in node.names]
                elif isinstance(node, ast.Import):
                    targets = [alias.name for alias in node.names]
                else:
                    continue
                found |= {
                    f"late import: {module}.{name} imports {target}"
                    for target in targets
                    if target.startswith(f"{room}.")
                }
    return found


def long_functions() -> set[str]:
    """Functions of more than `MOST_LINES` lines, decorators not counted."""
    return {
        f"long function: {module}.{name}"
        for module, tree in modules()
        for name, function in functions(tree)
        if (function.end_lineno or 0) - function.lineno + 1 > MOST_LINES
    }


def many_arguments() -> set[str]:
    """Functions that take more than `MOST_ARGUMENTS` arguments, ``self`` not counted.

    Nor are keyword-only arguments of public methods: each is a choice that a user makes by name.
    Functions that stored pickles call (`nbqueue.calls.rebuild` and its neighbours) keep theirs.
    """
    return {
        f"many arguments: {module}.{name}"
        for module, tree in modules()
        if not module.startswith("nbqueue.calls.rebuild")
        for name in with_many_arguments(tree)
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


def sleeping_tests() -> set[str]:
    """Tests and fixtures that wait for time instead of a fact.

    A function inside a test is mostly the body of a task, and may sleep.
    """
    found = set()
    for module, tree in modules(TESTS):
        for name, function in functions(tree):
            is_fixture = any("fixture" in ast.unparse(each) for each in function.decorator_list)
            if not (function.name.startswith("test_") or is_fixture):
                continue
            if any(_is_sleep(node) for node in _own_nodes(function)):
                found.add(f"sleep: {module}.{name}")
    return found


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of functions inside it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, (*_Function.__args__, ast.Lambda)):
            yield node
            yield from _own_nodes(node)


def _is_sleep(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or ast.unparse(node.func) not in (
        "time.sleep",
        "asyncio.sleep",
    ):
        return False
    return not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)


def full_rooms() -> set[str]:
    """Packages of more than `MOST_MODULES` modules, not counting packages inside them."""
    found = set()
    for folder in [PACKAGE, *(path.parent for path in PACKAGE.rglob("*/__init__.py"))]:
        count = sum(path.stem != "__init__" for path in folder.glob("*.py"))
        if count > MOST_MODULES:
            found.add(f"full room: {'.'.join(folder.relative_to(ROOT).parts)}")
    return found


def same_names() -> set[str]:
    """File names that occur more than once, unless `SAME_MEANING` lists them."""
    paths = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.lua")]
    names = Counter(path.name for path in paths if path.name != "__init__.py")
    return {
        f"same name: {name}"
        for name, count in names.items()
        if count > 1 and name not in SAME_MEANING
    }


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
        for node in ast.walk(ast.parse(path.read_text())):
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
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                yield str(node.value.value)
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield token.string


def without_contract(contracts: list[dict[str, object]]) -> set[str]:
    """Packages and modules of nbqueue that the contract of layers does not name."""
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    assert isinstance(layers, list)
    named = {name.strip() for layer in layers for name in _LAYER_SEPARATOR.split(layer)}
    children = {
        f"nbqueue.{path.stem}"
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file()) and path.stem != "__init__"
    }
    return {f"no layer: {name}" for name in children - named}
