"""The structure of the code keeps to the rules of CONTRIBUTING.md.

What does not yet is listed in known_findings.txt. The list only ever shrinks: a new finding fails,
and so does a line that is not true any more.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("house_findings", HERE / "findings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


findings = _load()
KNOWN = frozenset(
    line
    for line in (HERE / "known_findings.txt").read_text().splitlines()
    if line and not line.startswith("#")
)


def contracts() -> set[str]:
    """Packages that no layer of the import contracts names."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    table = tomllib.loads((findings.ROOT / "pyproject.toml").read_text())
    found: set[str] = findings.without_contract(table["tool"]["importlinter"]["contracts"])
    return found


CHECKS: dict[str, Callable[[], set[str]]] = {
    "circle": findings.circles,
    "late import": findings.late_imports,
    "long function": findings.long_functions,
    "many arguments": findings.many_arguments,
    "sleep": findings.sleeping_tests,
    "no layer": contracts,
    "full room": findings.full_rooms,
    "same name": findings.same_names,
}


@pytest.mark.parametrize("kind", CHECKS)
def test_the_code_keeps_to_the_rules(kind: str) -> None:
    found = CHECKS[kind]()
    known = {line for line in KNOWN if line.startswith(f"{kind}: ")}
    assert sorted(found - known) == [], f"new departures from a rule ({kind})"
    assert sorted(known - found) == [], "no longer true: remove these lines of known_findings.txt"


@pytest.mark.parametrize("find", [findings.metaphors, findings.openers])
def test_prose_is_plain(find: Callable[[], set[str]]) -> None:
    assert sorted(find()) == []


def test_a_metaphor_is_found_in_comments_and_docstrings_only(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""It lies\nin Redis."""\nx = "nobody"  # is told\n')
    found = [
        match[0]
        for text in findings._prose(module)
        for match in findings.METAPHORS.finditer(" ".join(text.split()))
    ]
    assert found == ["lies in", "is told"]


def test_every_known_finding_is_of_a_kind_that_is_checked() -> None:
    assert {line.partition(":")[0] for line in KNOWN} <= set(CHECKS)


def tree(text: str) -> Any:
    return findings.ast.parse(text)


def test_a_long_function_and_its_name_are_found() -> None:
    body = "\n".join("        x = 1" for _ in range(60))
    found = dict(findings.functions(tree(f"class A:\n    def f(self):\n{body}\n")))
    assert list(found) == ["A.f"]
    assert found["A.f"].end_lineno - found["A.f"].lineno + 1 > findings.MOST_LINES


def test_a_sleep_counts_in_a_test_and_not_in_a_task_inside_it() -> None:
    text = "def test_a():\n    def task():\n        time.sleep(9)\n    {}\n"
    for line, sleeps in (("time.sleep(0.1)", True), ("pass", False), ("time.sleep(0)", False)):
        [test] = tree(text.format(line)).body
        assert any(map(findings._is_sleep, findings._own_nodes(test))) is sleeps


def test_keyword_arguments_count_except_in_public_methods() -> None:
    few, many = "a, b", ", ".join(f"a{i}" for i in range(9))
    text = "class {}:\n    def {}(self, {}): ...\n"
    for owner, name, arguments, is_found in (
        ("Client", "f", f"{few}, *, {many}", False),
        ("Client", "f", many, True),
        ("Client", "_f", f"{few}, *, {many}", True),
        ("Client", "__init__", f"{few}, *, {many}", True),
        ("Other", "f", f"{few}, *, {many}", True),
        ("Other", "f", few, False),
    ):
        found = findings.with_many_arguments(tree(text.format(owner, name, arguments)))
        assert bool(found) is is_found, (owner, name, arguments)


@pytest.mark.parametrize("target", ["test", "test-slow", "test-server"])
def test_make_names_tests_that_exist(target: str) -> None:
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = re.findall(r"\btests/\S+", done.stdout)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert bool(paths) == (target == "test-server")
