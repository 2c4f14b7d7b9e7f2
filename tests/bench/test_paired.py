"""Comparison of two checkouts."""

from __future__ import annotations

import importlib
from typing import Any

import pytest


@pytest.fixture
def paired() -> Any:
    return importlib.import_module("paired")


@pytest.mark.parametrize(("freedom", "quantile"), [(4, 2.132), (14, 1.761), (29, 1.699)])
def test_the_quantile_is_that_of_the_tables(paired: Any, freedom: int, quantile: float) -> None:
    assert paired._student(freedom) == pytest.approx(quantile, rel=0.01)


def test_a_change_is_told_from_noise_that_both_sides_share(paired: Any) -> None:
    noise = [0.0, 5.0, -3.0, 2.0, 1.0, -4.0]
    base = [100 + n for n in noise]
    same = paired.compare(base, [n + 0.1 * (-1) ** i for i, n in enumerate(base)])
    assert abs(same.mean) < 0.2
    assert same.bound < 0.5
    slower = paired.compare(base, [n * 1.05 for n in base])
    assert slower.mean == pytest.approx(5, abs=0.1)
    assert slower.bound > 3
