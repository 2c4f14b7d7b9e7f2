"""Parameters of functions, read from stored code, and the arguments of calls by name."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import pytest

from nbqueue.calls.functions import dump_function
from nbqueue.client.arguments.code_parameters import parameters_of
from nbqueue.client.arguments.function_parameters import UNKNOWN, Parameters
from nbqueue.tasks.retry_policy import Policy, WithPolicy


def every(a: int, /, b: int = 2, *rest: int, c: str = "x", **more: int) -> None: ...


def typed(when: object = sys.float_info, other: int = 1) -> None: ...


def decorated(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return inner


@decorated
def wrapped(lr: float, depth: int = 3) -> None: ...


class Model:
    def fit(self, lr: float) -> None: ...


def test_bind() -> None:
    names = Parameters.of(every)
    assert names.bind((1,), {}) == {"a": 1, "b": 2, "c": "x", "rest": ()}
    assert names.bind((1,), {}, fill=False) == {"a": 1}
    assert names.bind((1, 5, 6, 7), {"c": "y", "n": 8}) == {
        "a": 1, "b": 5, "rest": (6, 7), "c": "y", "n": 8,
    }  # fmt: skip
    # Keys that are names of a positional-only parameter and of *args.
    assert names.bind((1,), {"a": 2, "rest": 3}, fill=False) == {
        "a": 1, "more.a": 2, "more.rest": 3,
    }  # fmt: skip


def test_bind_of_a_call_that_does_not_fit() -> None:
    names = Parameters(("lr",))
    assert names.bind((1, 2), {"x": 3}) == {"lr": 1, "1": 2, "x": 3}
    assert names.bind((), {}) == {}
    assert UNKNOWN.bind((1, 2), {"x": 3}) == {"0": 1, "1": 2, "x": 3}


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (every, Parameters.of(every)),
        (typed, Parameters.of(typed)),
        (wrapped, Parameters(("lr", "depth"), defaults={"depth": 3})),
        (WithPolicy(every, Policy(delay=1.0)), Parameters.of(every)),
        (Model().fit, Parameters(("lr",))),
        (functools.partial(wrapped, 0.1), Parameters(("depth",), defaults={"depth": 3})),
        (len, Parameters(("obj",), 1)),
        (dict, UNKNOWN),
    ],
    ids=["function", "default", "wrapped", "policy", "method", "partial", "builtin", "dict"],
)
def test_parameters_of_stored_functions(fn: Callable[..., Any], expected: Parameters) -> None:
    assert parameters_of(dump_function(fn).blob) == expected


def test_nothing_is_imported_to_read_a_plain_function(monkeypatch: pytest.MonkeyPatch) -> None:
    import decimal

    def fit(lr: float, depth: int = 3, unit: object = decimal.ROUND_UP) -> Any:
        return decimal.Decimal(lr)

    blob = dump_function(fit).blob
    monkeypatch.setitem(sys.modules, "decimal", None)
    expected = Parameters(("lr", "depth", "unit"), defaults={"depth": 3, "unit": "ROUND_UP"})
    assert parameters_of(blob) == expected


def test_a_default_that_cannot_be_loaded_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from fractions import Fraction

    def fit(lr: float, step: object = Fraction(1, 2), depth: int = 3) -> None: ...

    blob = dump_function(fit).blob
    assert parameters_of(blob).defaults["step"] == Fraction(1, 2)
    monkeypatch.setitem(sys.modules, "fractions", None)
    assert parameters_of(blob) == Parameters(("lr", "step", "depth"), defaults={"depth": 3})


@pytest.mark.parametrize("blob", [b"", b"junk", b"\x80\x05N."])
def test_what_is_no_function_has_unknown_parameters(blob: bytes) -> None:
    assert parameters_of(blob) == UNKNOWN
