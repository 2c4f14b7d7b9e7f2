"""A folder for everything that a notebook accesses: its store, Jupyter's files, a kernel."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nbqueue.store.embedded import stop_server


@contextmanager
def jupyter_folder(folder: Path) -> Iterator[None]:
    """Make child processes use ``folder`` for Jupyter, IPython and nbqueue."""
    home = folder / "store"
    kernel = folder / "data" / "kernels" / "nbqueue-test"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "nbqueue-test", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    with pytest.MonkeyPatch.context() as patch:
        for variable, name in {
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "IPYTHONDIR": "ipython",
            "XDG_STATE_HOME": "state",
            "TMPDIR": "tmp",
        }.items():
            (folder / name).mkdir(exist_ok=True)
            patch.setenv(variable, str(folder / name))
        patch.setenv("NBQUEUE_URL", f"embedded://{home}")
        # Other kernels of the machine must not be used.
        patch.setenv("JUPYTER_PATH", str(folder / "data"))
        yield
    stop_server(home)
