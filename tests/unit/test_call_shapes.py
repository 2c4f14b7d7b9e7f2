"""`CallShapes` refuses what a call on the worker would refuse, and nothing else."""

from __future__ import annotations

import functools
import os.path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.client.submitting.call_shapes import CallShapes


def fit(lr: float, /, depth: int = 3, *, seed: int = 0) -> None: ...
def load(path: str, *parts: str, retry: int, **more: Any) -> None: ...
def nothing() -> None: ...


@functools.wraps(fit)
def wrapped(*args: Any, **kwargs: Any) -> None: ...


@given(
    fn=st.sampled_from([fit, load, nothing, wrapped]),
    calls=st.lists(
        st.tuples(
            st.integers(0, 4),
            st.sets(st.sampled_from(["lr", "depth", "seed", "retry", "path", "other"]), max_size=3),
        ),
        max_size=6,
    ),
)
def test_what_python_refuses_is_refused_and_nothing_else(
    fn: Any, calls: list[tuple[int, set[str]]]
) -> None:
    shapes = CallShapes(fn, by_reference=False)
    for count, names in calls:
        args, kwargs = (0,) * count, dict.fromkeys(names, 0)
        try:
            fn(*args, **kwargs)
        except TypeError:
            with pytest.raises(TypeError, match=f"^{fn.__name__}\\("):
                shapes.check(args, kwargs)
        else:
            shapes.check(args, kwargs)


def test_the_error_names_the_parameter_or_the_option_that_was_meant() -> None:
    shapes = CallShapes(fit, by_reference=False)
    with pytest.raises(TypeError) as error:
        shapes.check((0.1,), {"dept": 3})
    assert str(error.value) == (
        "fit(lr, depth=…, seed=…): got an unexpected keyword argument 'dept': did you mean 'depth'?"
    )
    with pytest.raises(TypeError, match=r"q\.options\(timeout=…\)\.submit\(…\)$"):
        shapes.check((0.1,), {"timeout": 3})
    with pytest.raises(TypeError, match=r"missing a required .*argument: 'lr'"):
        shapes.check((), {})


@pytest.mark.parametrize("fn", [os.path.join, len, functools.partial(fit, 0.1), str.upper])
def test_what_may_differ_on_the_worker_is_not_checked(fn: Any) -> None:
    CallShapes(fn, by_reference=fn is os.path.join).check((1, 2, 3, 4), {"odd": 1})
