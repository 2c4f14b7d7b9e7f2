"""Large captured values cause a warning, and an error above a limit."""

from __future__ import annotations

import functools
import tracemalloc
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbqueue
from nbqueue import LargeCaptureWarning, UsageError, ValueTooLarge
from nbqueue.calls import functions
from nbqueue.calls.functions import dump_function
from nbqueue.calls.pickling import captured_values
from nbqueue.calls.pickling.function_cache import FunctionCache
from nbqueue.testing import eager, eager_client

LIMIT = 100_000_000

table = np.zeros(400_000)
frame = pd.DataFrame({"a": np.arange(300_000), "b": np.arange(300_000)})
words = ["a" * 30 + str(i) for i in range(60_000)]
nested = {"deep": [table]}
text = "a" * 3_000_000
small = np.zeros(10_000)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the warnings given for functions."""
    monkeypatch.setattr(captured_values, "_warned", weakref.WeakKeyDictionary())
    monkeypatch.setattr(functions, "_kept", FunctionCache())


def uses_global() -> Any:
    return table.sum() + small.sum()


def calls_another() -> Any:
    return uses_global()


def uses_default(rows: Any = frame) -> Any:
    return rows


@functools.lru_cache
def cached(i: int) -> Any:
    return words


class Model:
    weights = np.ones(300_000)

    def fit(self) -> Any:
        return self.weights


class Data:
    def __init__(self) -> None:
        self.rows = np.ones(300_000)

    def fit(self) -> Any:
        return self.rows

    def __call__(self) -> Any:
        return self.rows


def closure() -> Callable[[], Any]:
    cell = bytes(3_000_000)
    return lambda: cell


def module_with_table(folder: Path) -> types.ModuleType:
    import importlib.util
    import sys

    path = folder / "captured_module.py"
    path.write_text("TABLE = b'x' * 2_000_000\n\ndef read():\n    return TABLE\n")
    spec = importlib.util.spec_from_file_location("captured_module", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["captured_module"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def local_module(tmp_path: Path) -> Iterator[Any]:
    import sys

    yield module_with_table(tmp_path)
    del sys.modules["captured_module"]


CASES: dict[str, tuple[Callable[..., Any], str]] = {
    "uses the global 'table', a numpy.ndarray of 3.2 MB": (uses_global, "global"),
    "calls uses_global(), which uses the global 'table'": (calls_another, "through another"),
    "has a default for the parameter 'rows', a pandas": (uses_default, "default"),
    "uses the global 'words', a list of 2.": (cached, "cached"),
    "the variable 'cell' of the enclosing function 'closure'": (closure(), "closure"),
    "class attribute 'weights' of": (Model().fit, "class"),
    "attribute 'rows' of": (Data().fit, "bound"),
    "attribute 'rows' ": (Data(), "callable object"),
    "argument 1 of the partial, a numpy.ndarray": (functools.partial(abs, table), "partial"),
    "argument 'key' of the partial": (functools.partial(sorted, key=table), "keyword"),
    "uses the global 'nested', a dict of 3.2 MB": (lambda: nested, "container"),
    "uses the global 'text', a str of 3.0 MB": (lambda: text, "text"),
}


@pytest.mark.parametrize("said", CASES, ids=[name for _, name in CASES.values()])
def test_a_large_value_is_warned_of_once_with_its_name_and_size(said: str) -> None:
    fn, q = CASES[said][0], eager_client()
    with pytest.warns(LargeCaptureWarning) as caught:
        dump_function(fn, LIMIT)
    assert len(caught) == 1
    assert said in str(caught[0].message)
    assert "pass it as an argument" in str(caught[0].message)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        q.submit(fn)


@pytest.mark.parametrize("said", CASES, ids=[name for _, name in CASES.values()])
def test_above_the_limit_it_is_refused_with_its_name_and_size(said: str) -> None:
    with pytest.raises(ValueTooLarge) as caught:
        dump_function(CASES[said][0], 1_000_000)
    assert said in str(caught.value)
    assert "pass it as an argument" in str(caught.value)
    assert caught.value.path


def test_variables_of_local_modules_count(local_module: Any) -> None:
    def uses_module() -> Any:
        return local_module

    for fn in (local_module.read, uses_module):
        with pytest.warns(LargeCaptureWarning, match="TABLE"):
            dump_function(fn, LIMIT)
        with pytest.raises(ValueTooLarge, match="TABLE"):
            dump_function(fn, 1_500_000)


def test_each_large_variable_is_named() -> None:
    with pytest.warns(LargeCaptureWarning) as caught:
        dump_function(lambda: (table, words, small, frame), LIMIT)
    assert len(caught) == 3


def test_what_is_small_or_installed_is_no_matter() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fn in (lambda: small, np.linalg.norm, lambda: pd.DataFrame, sum):
            dump_function(fn, 200_000)


def test_many_values_that_are_too_large_together_are_refused() -> None:
    parts = [np.zeros(100_000) for _ in range(5)]
    a, b, c, d, e = parts
    with pytest.raises(ValueTooLarge, match="the variable 'a'"):
        dump_function(lambda: (a, b, c, d, e), 1_000_000)


def test_a_value_that_is_much_too_large_is_not_copied() -> None:
    huge = np.zeros(75_000_000)  # its pages are never touched
    tracemalloc.start()
    try:
        with pytest.raises(ValueTooLarge, match=r"'huge'.* of 600 MB"):
            dump_function(lambda: huge, 16_000_000)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


class TestConnect:
    def test_the_limit_is_16_mb_unless_it_is_said(self) -> None:
        large, larger = bytes(15_000_000), bytes(17_000_000)
        with eager(), warnings.catch_warnings():
            warnings.simplefilter("ignore", LargeCaptureWarning)
            q = nbqueue.connect()
            assert q.submit(lambda: len(large)).result() == 15_000_000
            with pytest.raises(ValueTooLarge, match=r"'larger'.* of 17.0 MB.*at most 16.0 MB"):
                q.submit(lambda: len(larger))
            with pytest.raises(ValueTooLarge):
                q.map(lambda i: larger, [1])
            with pytest.raises(ValueTooLarge):
                q.task(lambda: larger).submit()
            assert q.submit(len, larger).result() == 17_000_000
            for limit in ("20MB", 20_000_000, None):
                q = nbqueue.connect(captured_limit=limit)
                assert q.submit(lambda: len(larger)).result() == 17_000_000

    def test_what_was_pickled_for_another_client_is_refused_too(self) -> None:
        def fn() -> int:
            return len(text)

        with eager(), warnings.catch_warnings():
            warnings.simplefilter("ignore", LargeCaptureWarning)
            assert nbqueue.connect().submit(fn).result() == 3_000_000
            with pytest.raises(ValueTooLarge, match="'text'"):
                nbqueue.connect(captured_limit="2MB").submit(fn)

    @pytest.mark.parametrize("limit", ["16 apples", "", 0, -1, True, 1.5, "0.1"])
    def test_a_limit_is_a_size(self, limit: Any) -> None:
        with eager(), pytest.raises(UsageError, match="captured_limit="):
            nbqueue.connect(captured_limit=limit)
