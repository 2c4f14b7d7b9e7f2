"""A folder for Jupyter, and a kernel in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_folder import jupyter_folder
from kernel import Kernel


@pytest.fixture
def jupyter(tmp_path: Path) -> Iterator[Path]:
    """A folder with everything that a notebook may touch."""
    with jupyter_folder(tmp_path):
        yield tmp_path


@pytest.fixture
def kernel(jupyter: Path) -> Iterator[Kernel]:
    """A kernel in a folder of its own, with a store of its own."""
    found = Kernel(jupyter)
    yield found
    found.close()
