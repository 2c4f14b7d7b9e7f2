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


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"house_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


findings = _load("findings")
sleeping_tests = _load("sleeping_tests")
KNOWN = frozenset(
    line
    for line in (HERE / "known_findings.txt").read_text().splitlines()
    if line and not line.startswith("#")
)


def open_contracts() -> set[str]:
    """Modules that the import contracts of pyproject.toml leave out."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    table = tomllib.loads((findings.ROOT / "pyproject.toml").read_text())
    found: set[str] = findings.open_contracts(table["tool"]["importlinter"]["contracts"])
    return found


CHECKS: dict[str, Callable[[], set[str]]] = {
    "circle": findings.circles,
    "late import": findings.late_imports,
    "long function": findings.long_functions,
    "many arguments": findings.many_arguments,
    "sleep": lambda: sleeping_tests.sleeping_tests(ROOT / "tests"),
    "open contract": open_contracts,
    "full room": findings.full_rooms,
    "same name": findings.same_names,
    "unused reason": findings.unused_reasons,
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


NINE = ", ".join(f"a{i}" for i in range(9))
LINES = "\n".join("        x = 1" for _ in range(60))
LUA_LINES = "\n".join("  local x = 1" for _ in range(60))


@pytest.mark.parametrize(
    ("check", "file", "text", "found"),
    [
        ("long_functions", "a", f"class A:\n    def f(self):\n{LINES}\n", {"scratch.a.A.f"}),
        (
            "long_functions",
            "a",
            f"def f():\n    async def g():\n{LINES}\n",
            {"scratch.a.f", "scratch.a.f.g"},
        ),
        ("long_functions", "a", f"if 1:\n    def f():\n{LINES}\n", {"scratch.a.f"}),
        (
            "long_functions",
            "a",
            f"f = lambda: (\n{LINES.replace('x = 1', '1,')}\n)\n",
            {"scratch.a.<lambda>"},
        ),
        (
            "long_functions",
            "lib/a.lua",
            f"local function f(a)\n{LUA_LINES}\nend\n",
            {"lib/a.lua: f"},
        ),
        (
            "long_functions",
            "lib/a.lua",
            f"local f = function()\n{LUA_LINES}\nend\n",
            {"lib/a.lua: local f = function()"},
        ),
        ("long_functions", "lib/a.lua", f"local function f() return 1 end\n{LUA_LINES}\n", set()),
        ("many_arguments", "a", f"class A:\n    def f(self, {NINE}): ...\n", {"scratch.a.A.f"}),
        ("many_arguments", "a", f"def f():\n    def g(*, {NINE}): ...\n", {"scratch.a.f.g"}),
        ("many_arguments", "a", f"f = lambda {NINE}: 1\n", {"scratch.a.<lambda>"}),
        ("many_arguments", "lib/a.lua", f"local function f({NINE})\nend\n", {"lib/a.lua: f"}),
        (
            "many_arguments",
            "a",
            "@dataclass\nclass A:\n" + "".join(f"    a{i}: int\n" for i in range(9)),
            set(),
        ),
        (
            "late_imports",
            "a",
            "def f():\n    from scratch import b\n",
            {"scratch.a.f imports scratch.b"},
        ),
        ("late_imports", "a", "def f():\n    from . import b\n", {"scratch.a.f imports scratch.b"}),
        (
            "late_imports",
            "a",
            "def f():\n    from .b import g\n",
            {"scratch.a.f imports scratch.b"},
        ),
        (
            "late_imports",
            "a",
            "def f():\n    def g():\n        import scratch.b\n",
            {"scratch.a.f.g imports scratch.b"},
        ),
        (
            "late_imports",
            "a",
            "f = lambda: importlib.import_module('scratch.b')\n",
            {"scratch.a.<lambda> imports scratch.b"},
        ),
        ("late_imports", "a", "__import__('scratch.b')\n", {"scratch.a.module imports scratch.b"}),
        ("late_imports", "a", "def f():\n    import pandas\n", set()),
        ("circles", "a", "import scratch.b\n", {"scratch.a", "scratch.b"}),
        ("circles", "a", "def f():\n    import scratch.b\n", {"scratch.a", "scratch.b"}),
        (
            "circles",
            "a",
            "class A:\n    def f(self):\n        from .b import x\n",
            {"scratch.a", "scratch.b"},
        ),
        (
            "circles",
            "a",
            "def f():\n    return import_module('scratch.b')\n",
            {"scratch.a", "scratch.b"},
        ),
        (
            "circles",
            "a",
            "if TYPE_CHECKING:\n    pass\nelse:\n    from scratch import b\n",
            {"scratch.a", "scratch.b"},
        ),
        ("circles", "a", "_HOMES = {'x': 'scratch.b'}\n", {"scratch.a", "scratch.b"}),
        ("circles", "a", "if TYPE_CHECKING:\n    from scratch import b\n", set()),
        ("same_names", "room/b", "", {"b.py"}),
        ("full_rooms", "a", "", set()),
    ],
)
def test_a_departure_is_found(
    check: str, file: str, text: str, found: set[str], tmp_path: Path
) -> None:
    root = tmp_path / "scratch"
    path = (root / file).with_suffix("" if file.endswith(".lua") else ".py")
    path = root / file if file.endswith(".lua") else path
    path.parent.mkdir(parents=True, exist_ok=True)
    (root / "__init__.py").touch()
    (root / "b.py").write_text("from scratch import a\n")
    path.write_text(text)
    (root / "a.py").touch()
    assert {line.partition(": ")[2] for line in getattr(findings, check)(root)} == found


def test_a_full_room_is_found_with_and_without_a_package_file(tmp_path: Path) -> None:
    for room in ("with", "without"):
        (tmp_path / "scratch" / room).mkdir(parents=True)
        for number in range(findings.MOST_MODULES + 1):
            (tmp_path / "scratch" / room / f"{room}{number}.py").touch()
    (tmp_path / "scratch" / "with" / "__init__.py").touch()
    found = findings.full_rooms(tmp_path / "scratch")
    assert found == {"full room: scratch.with", "full room: scratch.without"}


def test_a_module_that_a_contract_leaves_out_is_found(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.py").touch()
    root = tmp_path.name
    layers = {"name": "down", "type": "layers", "layers": [f"{root}.a | {root}.b", f"{root}.d"]}
    only: dict[str, Any] = {"name": "X only in a", "type": "forbidden"}
    above = {"name": "Y only in d and above", "type": "forbidden", "source_modules": []}
    for sources, open_in in (([], {"b", "c"}), ([f"{root}.c"], {"b"})):
        found = findings.open_contracts(
            [layers, {**only, "source_modules": sources}, above], tmp_path
        )
        assert found == {
            f"open contract: layers lack {root}.c",
            f"open contract: Y in {root}.c",
            *(f"open contract: X in {root}.{name}" for name in open_in),
        }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def test_a():\n    time.sleep(0.1)\n", {"test_a"}),
        ("def test_a():\n    time.sleep(0)\n", set()),
        ("def test_a():\n    def task():\n        time.sleep(9)\n", set()),
        ("def test_a():\n    submit(lambda: time.sleep(9))\n", set()),
        ("from time import sleep as nap\ndef test_a():\n    nap(1)\n", {"test_a"}),
        ("import asyncio as io\nasync def test_a():\n    await io.sleep(1)\n", {"test_a"}),
        ("def f():\n    g()\ndef g():\n    time.sleep(1)\ndef test_a():\n    f()\n", {"test_a"}),
        ("def task():\n    time.sleep(1)\ndef test_a():\n    submit(task)\n", set()),
        ("class TestA:\n    def test_a(self):\n        time.sleep(1)\n", {"TestA.test_a"}),
        ("@pytest.fixture\ndef a():\n    threading.Event().wait(1)\n", {"a"}),
        ("def test_a(page):\n    page.wait_for_timeout(100)\n", {"test_a"}),
        ("def test_a():\n    subprocess.run(['sleep', '1'])\n", {"test_a"}),
        ("def test_a():\n    stop.wait(1)\n", set()),
    ],
)
def test_a_test_that_sleeps_is_found(text: str, found: set[str]) -> None:
    assert sleeping_tests.in_module(tree(text)) == found


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
