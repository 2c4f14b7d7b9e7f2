"""Scripts repeat no lines of others, and callers use the names of their headers."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from nbqueue.broker import script_loader
from nbqueue.wire.keys import day_keys

BROKER = Path(__file__).parents[2] / "nbqueue" / "broker"
LUA = BROKER / "lua"
MOST_REPEATED = 6
"""Lines of code in a row that two scripts or fragments may have in common."""


def lines_of(text: str) -> list[str]:
    """The lines of code of a script, without what differs only in style."""
    code = (re.sub(r"(^|\s)--.*$", "", line).strip() for line in text.splitlines())
    return [re.sub(r"\bredis\.(p?call)\b", r"\1", line) for line in code if line]


def repeated(texts: dict[str, str]) -> dict[tuple[str, ...], str]:
    """The files that have more than `MOST_REPEATED` lines in common, with the first of these."""
    found: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for name, text in texts.items():
        lines = lines_of(text)
        for start in range(len(lines) - MOST_REPEATED):
            found[tuple(lines[start : start + MOST_REPEATED + 1])].add(name)
    return {tuple(sorted(names)): block[0] for block, names in found.items() if len(names) > 1}


def test_no_script_repeats_lines_of_another_or_of_a_fragment() -> None:
    texts = {str(path.relative_to(LUA)): path.read_text() for path in LUA.rglob("*.lua")}
    assert repeated(texts) == {}


def test_repeated_lines_are_found_whatever_their_indent_and_comments() -> None:
    block = "\n".join(f"local a{number} = redis.call('GET', k{number})" for number in range(7))
    other = "if x then\n" + block.replace("local", "  local").replace("redis.", "") + " -- why\nend"
    assert repeated({"a.lua": block, "b.lua": other}) == {
        ("a.lua", "b.lua"): "local a0 = call('GET', k0)"
    }
    assert repeated({"a.lua": block, "b.lua": other.replace("k3", "k")}) == {}


def unused(name: str) -> set[str]:
    """The names in the header of a script that it does not use, and keys that it numbers.

    A fragment counts as used if the script, or another of its fragments, has one of its names.
    """
    script = script_loader.load(name)
    code = "\n".join(lines_of(script.source.decode()))
    own = "\n".join(lines_of((LUA / f"{name}.lua").read_text()))
    found = {each for each in (*script.keys, *script.args) if code.count(each) < 2}
    found |= set(re.findall(r"\b(?:KEYS|ARGV)\[\d+\]", own))
    for fragment in re.findall(r"^-- USES: (.*)$", (LUA / f"{name}.lua").read_text(), re.MULTILINE):
        for each in fragment.split(", "):
            text = "\n".join(lines_of((LUA / "lib" / f"{each}.lua").read_text()))
            names = re.findall(r"^local (?:function )?(\w+)", text, re.MULTILINE)
            if not any(re.search(rf"\b{one}\b", code.replace(text, "")) for one in names):
                found.add(each)
    return found


@pytest.mark.parametrize("name", sorted(path.stem for path in LUA.glob("*.lua")))
def test_a_script_uses_what_its_header_names(name: str) -> None:
    assert unused(name) == set()


class Caller(NamedTuple):
    """A call of `command` in the source."""

    place: str
    script: str
    args: set[str]
    has_all_args: bool
    other_keys: set[str]
    each: tuple[str, ...] | None


def _names(node: ast.expr | None) -> tuple[set[str], bool]:
    """The names in a dictionary, and whether they are all of its names."""
    if not isinstance(node, ast.Dict):
        return set(), node is None
    names = {key.value for key in node.keys if isinstance(key, ast.Constant)}
    return names, None not in node.keys


def _each(node: ast.expr | None, module: ast.Module) -> tuple[str, ...] | None:
    """The names of a `PerTask`, which may be a constant of the module."""
    if not isinstance(node, ast.Call):
        return None
    names = node.args[1] if len(node.args) > 1 else ast.Tuple([])
    if isinstance(names, ast.Name):
        [names] = [
            each.value
            for each in module.body
            if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == names.id
        ]
    value: tuple[str, ...] = eval(ast.unparse(names))
    return value


def callers() -> Iterator[Caller]:
    """Every call of `command` in the broker; one that chooses between two scripts counts twice."""
    for path in sorted(BROKER.rglob("*.py")):
        module = ast.parse(path.read_text())
        for node in ast.walk(module):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != "command":
                continue
            keywords = {each.arg: each.value for each in node.keywords}
            args, has_all_args = _names(node.args[2])
            others, _ = _names(keywords.get("other_keys"))
            each = _each(keywords.get("tasks"), module)
            place = f"{path.name}:{node.lineno}"
            scripts = re.findall(r"'(\w+)'", ast.unparse(node.args[0]))
            assert scripts, f"{place} does not name its script"
            for name in scripts:
                yield Caller(place, name, args, has_all_args, others, each)


CALLERS = list(callers())
OF_QUEUES = set(vars(day_keys("q", 0)))


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: f"{caller.script} {caller.place}")
def test_a_caller_gives_the_names_in_the_header_of_the_script(caller: Caller) -> None:
    script = script_loader.load(caller.script)
    assert caller.args <= set(script.args)
    assert caller.args == set(script.args) or not caller.has_all_args
    assert caller.other_keys <= set(script.keys)
    assert set(script.keys) <= caller.other_keys | OF_QUEUES
    assert caller.each == (script.rest if script.has_further_keys else None)


def test_every_script_has_a_caller() -> None:
    called = {caller.script for caller in CALLERS}
    called |= {script_loader.load(name).full for name in called}
    assert {path.stem for path in LUA.glob("*.lua")} <= called
