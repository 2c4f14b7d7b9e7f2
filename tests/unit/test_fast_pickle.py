"""Plain values are pickled without overhead, and load with any unpickler."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.calls.pickling.fast_pickle import dump_plain_arguments, dump_plain_value

atoms = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
atoms |= st.binary(max_size=300) | st.sampled_from(["x" * 5_000, "\x93", b"\x93"])
plain = atoms | st.lists(atoms) | st.lists(atoms).map(tuple) | st.dictionaries(st.text(), atoms)


@given(st.lists(plain, max_size=4).map(tuple), st.dictionaries(st.text(), plain, max_size=3))
def test_arguments_come_back(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    data = dump_plain_arguments(args, kwargs)
    assert pickle.loads(data) == (args, kwargs)
    assert pickle._loads(data) == (args, kwargs)  # type: ignore[attr-defined]
    assert len(data) <= len(pickle.dumps((args, kwargs), 5))


@given(plain)
def test_a_value_comes_back(value: Any) -> None:
    data = dump_plain_value(value)
    assert pickle.loads(data) == value
    assert len(data) <= len(pickle.dumps(value, 5))


@pytest.mark.parametrize(
    ("args", "kwargs", "data"),
    [
        ((), {}, b")}\x94\x86."),
        ((1,), {}, b"K\x01\x85}\x86."),
        ((1, "a"), {}, b"K\x01\x8c\x01a\x94\x86}\x86."),
        ((), {"a": 1}, b")}\x94\x8c\x01a\x94K\x01s\x86."),
    ],
)
def test_there_is_little_around_small_ones(
    args: tuple[Any, ...], kwargs: dict[str, Any], data: bytes
) -> None:
    assert dump_plain_arguments(args, kwargs) == data


def test_one_object_stays_one_object() -> None:
    both = [1, 2]
    (first, second), _ = pickle.loads(dump_plain_arguments((both, both), {}))
    assert first is second


def test_what_is_found_by_name_keeps_its_protocol() -> None:
    numpy = pytest.importorskip("numpy")
    [back], _ = pickle.loads(dump_plain_arguments((numpy.arange(3),), {}))
    assert back.tolist() == [0, 1, 2]
    assert dump_plain_arguments((numpy.arange(3),), {})[:2] == b"\x80\x05"
    assert dump_plain_value(numpy.arange(3))[:2] == b"\x80\x05"
