"""`CallScreen` never rules out a call that has the wanted arguments, and rules out most others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.calls.functions import dump_arguments
from nbqueue.calls.payloads import pack_call, unverified_call
from nbqueue.client.arguments.call_screen import CallScreen
from nbqueue.client.arguments.frame_arguments import ArgumentFilter
from nbqueue.client.arguments.function_parameters import UNKNOWN, Parameters
from nbqueue.client.arguments.stored_arguments import NamedArguments
from nbqueue.wire.messages import TaskMessage

CODE = b"0123456789abcdef"


def fit(lr: Any, depth: Any = 3, *rest: Any, seed: Any = 0.5, **more: Any) -> None: ...


PARAMETERS = Parameters.of(fit)


def encoded(args: tuple[Any, ...], kwargs: Mapping[str, Any], task_type: str = "fit") -> bytes:
    payload = pack_call(CODE, dump_arguments(args, dict(kwargs)))
    # Bytes of such times are those of opcodes, and are none.
    return TaskMessage(
        type=task_type, payload=payload, id="0" * 22, queue="q", completed_at=1_796_082_579
    ).SerializeToString()


def screen_for(wanted: Mapping[str, Any], known: Parameters = PARAMETERS) -> CallScreen:
    return CallScreen(wanted, ArgumentFilter(wanted).tests, lambda code: known)


class Near(float):
    """A number that is equal to others near it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(float(self) - other) < 1e-6

    __hash__ = float.__hash__


@pytest.mark.parametrize(("wanted", "stored"), [(0.1, 0.1000000001), (1.0, 1.0000001)])
def test_a_number_with_an_equality_of_its_own_rules_out_nothing(
    wanted: float, stored: float
) -> None:
    assert not screen_for({"lr": Near(wanted)}).rules_out(encoded((stored,), {}))
    assert screen_for({"lr": wanted}).rules_out(encoded((stored,), {}))


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.integers(),
    st.floats(allow_nan=True),
    st.integers(-(2**70), 2**70).map(float),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.fractions(-3, 3),
    st.lists(st.integers(0, 9), max_size=3),
)
names = st.sampled_from(["lr", "depth", "seed", "rest", "extra", "0"])


@given(
    args=st.lists(plain, min_size=1, max_size=3),
    kwargs=st.dictionaries(st.sampled_from(["seed", "extra", "more"]), plain, max_size=2),
    wanted=st.dictionaries(names, plain, min_size=1, max_size=2),
    takes=st.integers(0, 3),
    knows=st.booleans(),
)
def test_no_call_with_the_wanted_arguments_is_ruled_out(
    args: list[Any], kwargs: dict[str, Any], wanted: dict[str, Any], takes: int, knows: bool
) -> None:
    parameters = PARAMETERS if knows else UNKNOWN
    named = parameters.bind(tuple(args), kwargs)
    # Most draws would agree in nothing.
    for name in [*named][:takes]:
        wanted[name] = named[name]
    wanted = {name: value for name, value in wanted.items() if name in named}
    if ArgumentFilter(wanted).chooses(NamedArguments(named)):
        message = encoded(tuple(args), kwargs)
        assert not screen_for(wanted, parameters).rules_out(message), (args, kwargs, wanted)


@pytest.mark.parametrize(
    ("value", "equal"),
    [
        (1, True), (True, 1.0), (0.0, -0.0), (0, False), (255, 255.0), (256, 256.0),
        (65_535, 65_535.0), (-1, -1.0), (-(2**31) - 1, -(2.0**31) - 1), (2**80, 2.0**80),
        (-(2**63), -(2.0**63)), (math.inf, math.inf), (math.nan, math.nan), (Fraction(1, 2), 0.5),
        ("é\udcff", "é\udcff"), (b"", b""), (None, None), ([1], [1]),
    ],
)  # fmt: skip
def test_equal_values_of_other_types_are_not_ruled_out(value: object, equal: object) -> None:
    for args, kwargs in (((value,), {}), ((1,), {"seed": value}), ((1,), {"extra": value})):
        name = next(iter(kwargs), "lr")
        assert not screen_for({name: equal}).rules_out(encoded(args, kwargs))


@pytest.mark.parametrize(
    ("wanted", "known"),
    [({"lr": 0.1}, PARAMETERS), ({"extra": 1}, PARAMETERS), ({"sede": 3}, UNKNOWN)],
)
def test_calls_without_the_value_are_ruled_out(
    wanted: Mapping[str, Any], known: Parameters
) -> None:
    screen = screen_for(wanted, known)
    assert all(
        screen.rules_out(encoded((x,), {}, task_type="f" * n)) for x in (0.25, "s", 7)
        for n in (1, 100, 200)
    )  # fmt: skip
    assert screen.ruled_out == {CODE: known}


def test_values_by_default_and_calls_of_unknown_functions_are_not_ruled_out() -> None:
    assert not screen_for({"depth": 3}).rules_out(encoded((1,), {}))
    assert screen_for({"depth": 4}).rules_out(encoded((1,), {}))
    unknown: Callable[[bytes], Parameters | None] = lambda code: None  # noqa: E731
    tests = ArgumentFilter({"lr": 1}).tests
    assert not CallScreen({"lr": 1}, tests, unknown).rules_out(encoded((2,), {}))


@given(st.binary(max_size=90), st.integers(0, 60))
def test_any_bytes_are_no_error(noise: bytes, cut: int) -> None:
    begin = pack_call(CODE, b"")[:5]
    for message in (noise, noise[:cut] + begin + noise[cut:], begin, encoded((1,), {})[:cut]):
        screen_for({"lr": 2}).rules_out(message)
    large = "x" * 3_000_000
    for size in (1, 100, 3_000, 200_000):
        fingerprint, arguments = unverified_call(encoded((large[:size],), {}))
        assert (fingerprint, len(arguments) >= size) == (CODE, True)
