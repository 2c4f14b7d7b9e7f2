"""A folder for Jupyter, and a kernel in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel import Kernel

from nbqueue.store.embedded import stop_server


@pytest.fixture
def jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with everything that a notebook may touch: its store, Jupyter's own, this Python."""
    home = tmp_path / "store"
    kernel = tmp_path / "data" / "kernels" / "nbqueue-test"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "nbqueue-test", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    for variable, folder in {
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "XDG_STATE_HOME": "state",
        "TMPDIR": "tmp",
    }.items():
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.setenv("NBQUEUE_URL", f"embedded://{home}")
    # Debian's and other kernels of the machine must not be taken for this Python's.
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))
    yield tmp_path
    stop_server(home)


@pytest.fixture
def kernel(jupyter: Path) -> Iterator[Kernel]:
    """A kernel in a folder of its own, with a store of its own."""
    found = Kernel(jupyter)
    yield found
    found.close()
