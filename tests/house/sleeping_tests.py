"""Tests and fixtures that wait for time instead of a fact."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_CLOCKS = {"time", "asyncio", "anyio", "trio"}
_SHELLS = {"run", "call", "check_call", "check_output", "system"}


def sleeping_tests(root: Path) -> set[str]:
    """Tests and fixtures that sleep, themselves or in a function of their module that they call.

    A function inside a test, and one that a test only submits, is the body of a task: it may sleep.
    """
    found = set()
    for path in sorted(root.rglob("*.py")):
        name = ".".join(path.relative_to(root.parent).with_suffix("").parts)
        text = path.read_text()
        if "sleep" in text or ".wait" in text:
            found |= {f"sleep: {name}.{each}" for each in in_module(ast.parse(text))}
    return found


def in_module(tree: ast.Module) -> set[str]:
    """Names of the tests and fixtures of a module that sleep."""
    names = _names_of_sleep(tree)
    functions = dict(_functions(tree))
    sleeping = {
        name
        for name, function in functions.items()
        if any(_is_sleep(node, names) for node in _own_nodes(function))
    }
    while True:
        callers = {
            name
            for name, function in functions.items()
            if any(
                isinstance(node, ast.Call) and ast.unparse(node.func) in sleeping
                for node in _own_nodes(function)
            )
        }
        if callers <= sleeping:
            break
        sleeping |= callers
    return {name for name in sleeping if _is_test(functions[name])}


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, _Function]]:
    """Yield the functions of a module and the methods of its classes, none inside functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield prefix + node.name, node
        else:
            yield from _functions(
                node, f"{node.name}." if isinstance(node, ast.ClassDef) else prefix
            )


def _is_test(function: _Function) -> bool:
    return function.name.startswith("test_") or any(
        "fixture" in ast.unparse(each) for each in function.decorator_list
    )


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of functions inside it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield node
            yield from _own_nodes(node)


def _names_of_sleep(tree: ast.Module) -> set[str]:
    """The names of functions that sleep, as the module imports them."""
    names = {f"{clock}.sleep" for clock in _CLOCKS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {f"{each.asname}.sleep" for each in node.names if each.name in _CLOCKS}
        elif isinstance(node, ast.ImportFrom) and node.module in _CLOCKS:
            names |= {each.asname or each.name for each in node.names if each.name == "sleep"}
    return names


def _is_sleep(node: ast.AST, names: set[str]) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    first = node.args[0] if node.args else None
    if called in names:
        return not (isinstance(first, ast.Constant) and first.value == 0)
    if called.endswith((".wait_for_timeout", "Event().wait")):
        return True
    if called.rpartition(".")[2] not in _SHELLS or first is None:
        return False
    if isinstance(first, (ast.List, ast.Tuple)) and first.elts:
        first = first.elts[0]
    return isinstance(first, ast.Constant) and str(first.value).split()[:1] == ["sleep"]
