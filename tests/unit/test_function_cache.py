"""A cached pickle is used exactly as long as a new one would be equal."""

from __future__ import annotations

import functools
import math
import statistics
import types
from collections.abc import Callable
from typing import Any

import pytest

from nbqueue.calls import functions
from nbqueue.calls.functions import dump_function, load_function
from nbqueue.calls.pickling.function_cache import FunctionCache

SOURCE = """
import math
factor = 2
name = "a"
numbers = [1, 2]
pair = (1, "b")

class Thing:
    size = 1

def helper(x):
    return x * factor

def simple(x, more=1, *, least=0):
    return helper(x) + more + least

def uses_list(x):
    return numbers

def uses_class(x):
    return Thing.size

def uses_module(x):
    return math.floor(x)

def uses_pair(x):
    return pair

def even(x):
    return x == 0 or odd(x - 1)

def odd(x):
    return x != 0 and even(x - 1)

def adder(by):
    def add(x):
        return x + by
    return add

def lister(parts):
    def find():
        return parts
    return find
"""


@pytest.fixture
def names() -> dict[str, Any]:
    """The names of a notebook, in which the functions above were defined."""
    found: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SOURCE, "<cell>", "exec"), found)
    return found


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Start with nothing kept; the list gets what is pickled from now on."""
    made: list[Any] = []
    dump = functions._dump_function

    def noting(fn: Callable[..., Any], limit: int | None) -> Any:
        made.append(fn)
        return dump(fn, limit)

    monkeypatch.setattr(functions, "_kept", FunctionCache())
    monkeypatch.setattr(functions, "_dump_function", noting)
    return made


def is_kept(fn: Callable[..., Any]) -> bool:
    """Return whether the second pickle is the first one."""
    return dump_function(fn) is dump_function(fn)


@pytest.mark.parametrize(
    "name", ["simple", "helper", "uses_module", "uses_pair", "even", "odd", "adder"]
)
def test_what_cannot_change_unseen_is_pickled_once(names: dict[str, Any], name: str) -> None:
    assert is_kept(names[name])


@pytest.mark.parametrize("name", ["uses_list", "uses_class"])
def test_what_may_change_unseen_is_pickled_each_time(
    names: dict[str, Any], name: str, fresh: list[Any]
) -> None:
    assert not is_kept(names[name])
    assert len(fresh) == 2


def test_a_list_that_grew_is_sent_as_it_is(names: dict[str, Any]) -> None:
    fn = names["uses_list"]
    dump_function(fn)
    names["numbers"].append(3)
    assert load_function(dump_function(fn).blob)(0) == [1, 2, 3]


def _edit_helper(names: dict[str, Any]) -> None:
    exec(compile("def helper(x):\n    return -x\n", "<cell 2>", "exec"), names)


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a global": lambda names: names.update(factor=5),
    "a helper that was defined anew": _edit_helper,
    "the code of a helper": lambda names: setattr(
        names["helper"], "__code__", (lambda x: -x).__code__
    ),
    "the defaults": lambda names: setattr(names["simple"], "__defaults__", (100,)),
    "a keyword default": lambda names: names["simple"].__kwdefaults__.update(least=1000),
    "a helper that is gone": lambda names: names.pop("helper"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(names: dict[str, Any], change: str) -> None:
    fn = names["simple"]
    before = dump_function(fn)
    assert dump_function(fn) is before
    CHANGES[change](names)
    after = dump_function(fn)
    assert after.fingerprint != before.fingerprint
    if "helper" in names:
        assert load_function(after.blob)(3) == fn(3)


def test_an_attribute_and_a_name_of_a_function_count(names: dict[str, Any]) -> None:
    fn = names["helper"]
    before = dump_function(fn)
    fn.unit = "m"
    assert load_function(dump_function(fn).blob).unit == "m"  # type: ignore[attr-defined]
    del fn.unit
    fn.__qualname__ = "other"
    assert dump_function(fn).name != before.name


def test_a_closure_counts_by_what_it_closes_over(names: dict[str, Any]) -> None:
    add = names["adder"](1)
    before = dump_function(add)
    assert dump_function(add) is before
    add.__closure__[0].cell_contents = 10
    assert load_function(dump_function(add).blob)(1) == 11
    assert not is_kept(names["lister"]([1]))


def test_functions_that_call_each_other_end(names: dict[str, Any]) -> None:
    even = names["even"]
    before = dump_function(even)
    exec(compile("def odd(x):\n    return 'edited'\n", "<cell 2>", "exec"), names)
    after = dump_function(even)
    assert after is not before
    assert load_function(after.blob)(1) == "edited"


def test_a_global_that_comes_later_counts(names: dict[str, Any]) -> None:
    exec(compile("def late():\n    return later\n", "<cell>", "exec"), names)
    before = dump_function(names["late"])
    assert dump_function(names["late"]) is before
    names["later"] = 7
    assert load_function(dump_function(names["late"]).blob)() == 7


def test_a_submodule_that_was_imported_meanwhile_goes_along(
    names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    before = dump_function(names["uses_module"])
    assert dump_function(names["uses_module"]) is before
    monkeypatch.setitem(sys.modules, "made_for_this_test", types.ModuleType("made_for_this_test"))
    assert dump_function(names["uses_module"]) is not before


def test_functions_of_installed_packages_stand_for_themselves(names: dict[str, Any]) -> None:
    names["mean"] = statistics.mean
    names["floor"] = math.floor
    exec(compile("def f(x):\n    return mean([floor(x)])\n", "<cell>", "exec"), names)
    assert is_kept(names["f"])
    names["mean"] = statistics.median
    before = dump_function(names["f"])
    names["mean"] = statistics.mean
    assert dump_function(names["f"]) is not before


def test_only_functions_are_kept(names: dict[str, Any], fresh: list[Any]) -> None:
    for fn in (functools.partial(names["helper"], 1), names["Thing"], math.floor):
        dump_function(fn)
        dump_function(fn)
    assert len(fresh) == 6


def test_only_the_last_functions_are_kept(names: dict[str, Any]) -> None:
    kept: FunctionCache[int] = FunctionCache(most=2)
    adders = [names["adder"](by) for by in range(3)]
    for number, fn in enumerate(adders):
        kept.put(fn, number)
    assert [kept.get(fn) for fn in adders] == [None, 1, 2]
