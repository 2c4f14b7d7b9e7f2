"""Fixtures of broker tests, which check the store's consistency after each test.

Tests about an inconsistent store are exempt.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from keyspace import check_invariants, dump


@pytest.fixture
def odd_store() -> None:
    """Asked for by tests that leave behind a store which made no sense to begin with."""


@pytest.fixture(autouse=True)
def _the_store_makes_sense(request: pytest.FixtureRequest) -> Iterator[None]:
    redis: Any = request.getfixturevalue("redis")
    yield
    if "odd_store" not in request.fixturenames:
        check_invariants(dump(redis))
