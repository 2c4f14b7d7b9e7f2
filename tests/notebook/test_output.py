"""The output of a task, replayed in a real kernel."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import nbqueue

KEY = "5b" * 32

SUBMIT = """
import os, nbqueue
from IPython.display import HTML

q = nbqueue.connect()

def work():
    print("\\x1b[31mred\\x1b[0m")
    display(HTML("<b>rich</b>"))  # no import: in a notebook it is there
    print("after")

f = q.submit(work)
f.result(60);
"""


@pytest.fixture
def kernel(store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a kernel of this Python, which meets nothing of the user's own."""
    folder = tmp_path / "data" / "kernels" / "nbqueue-test"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "nbqueue-test", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    for variable in ("JUPYTER_DATA_DIR", "JUPYTER_PATH"):
        monkeypatch.setenv(variable, str(tmp_path / "data"))
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.setenv("NBQUEUE_KEY", KEY)
    monkeypatch.setenv("NBQUEUE_URL", store_url)
    return "nbqueue-test"


def test_each_part_is_replayed_as_itself_and_in_order(
    kernel: str, store_url: str, tmp_path: Path
) -> None:
    cells = [nbformat.v4.new_code_cell(each) for each in (SUBMIT, "f.output()")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    with nbqueue.Worker(store_url, concurrency=1, log=tmp_path / "log"):
        NotebookClient(notebook, timeout=90, kernel_name=kernel).execute()
    outputs = notebook.cells[1].outputs
    assert [each.output_type for each in outputs] == ["display_data"] * 3
    red, rich, after = (each.data for each in outputs)
    assert red["text/plain"] == "red"
    assert "color-mix" in red["text/html"]
    assert rich["text/html"] == "<b>rich</b>"
    assert after["text/plain"] == "after"
