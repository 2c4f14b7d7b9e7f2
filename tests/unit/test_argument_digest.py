"""Equal calls have equal digests, in every process."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from nbqueue.calls.argument_digest import call_digest


def made(source: str) -> Callable[..., Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(source, names)
    found: Callable[..., Any] = names["fit"]
    return found


def digest(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    return call_digest(fn, args, kwargs)


def adder(n: int) -> Callable[[int], int]:
    def add(m: int) -> int:
        return m + n

    return add


class Model:
    def __init__(self, size: int) -> None:
        self.size = size

    def fit(self) -> int:
        return self.size


def test_an_edited_function_is_still_the_same() -> None:
    first = made("def fit(a): return a")
    moved = made("\n\n\n# later\ndef fit(a): return a + 1")
    assert digest(first, 1) == digest(moved, 1)


def test_another_name_is_another_function() -> None:
    assert digest(len, "a") != digest(sum, "a")
    assert digest(made("def fit(a): return a"), 1) != digest(adder(1), 1)


@pytest.mark.parametrize(
    ("one", "two"),
    [(1, 1.0), (1, True), ("1", 1), (b"1", "1"), ([1], (1,)), (None, "None"), ([1, 2], [12]),
     ({"a": 1}, {"a": 2}), ([["a"], "b"], [["a", "b"]]), ("ab", "a")],
)  # fmt: skip
def test_arguments_that_differ_make_another_call(one: Any, two: Any) -> None:
    assert digest(len, one) != digest(len, two)


def test_equal_arguments_make_the_same_call_whatever_their_identity_and_order() -> None:
    text = "".join(["spam ", "eggs"])
    assert digest(len, [text, text]) == digest(len, ["spam eggs", "".join(["spam", " eggs"])])
    assert digest(len, {"a": 1, "b": 2}) == digest(len, {"b": 2, "a": 1})
    assert digest(len, a=1, b={3, 4}) == digest(len, b={4, 3}, a=1)
    assert digest(len, 1) != digest(len, a=1)


def test_functions_without_a_name_are_known_by_what_they_do() -> None:
    assert digest(lambda: 1) == digest(lambda: 1)
    assert digest(lambda: 1) != digest(lambda: 2)
    assert digest(lambda: len("")) != digest(lambda: max(""))


def test_what_a_function_closes_over_and_is_bound_to_belongs_to_it() -> None:
    assert digest(adder(1), 1) == digest(adder(1), 1) != digest(adder(2), 1)
    assert digest(Model(1).fit) == digest(Model(1).fit) != digest(Model(2).fit)
    part = functools.partial
    assert digest(part(pow, 2)) == digest(part(pow, 2)) != digest(part(pow, 3))


def test_what_contains_itself_has_a_digest() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert digest(len, loop)


def test_functions_that_close_over_each_other_have_a_digest() -> None:
    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    assert digest(even, 1) != digest(odd, 1)


def test_every_process_finds_the_same() -> None:
    code = (
        "from nbqueue.calls.argument_digest import call_digest\n"
        "print(call_digest(len, ({'a', 'b', 'c'}, {'x': frozenset('pqr')}), {'k': 1.5}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert found == {
        call_digest(len, ({"a", "b", "c"}, {"x": frozenset("pqr")}), {"k": 1.5}) + "\n"
    }
