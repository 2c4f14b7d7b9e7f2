"""The notebooks run from top to bottom, in a real kernel, with real workers."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
QUICKSTART = FOLDER / "01-quickstart.ipynb"
WATCH = FOLDER / "02-watch-and-analyse.ipynb"
WIDGET = "application/vnd.jupyter.widget-view+json"


def text_of(cell: Any) -> str:
    """Everything that a cell shows, as plain text."""
    shown = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        shown.append(output.get("text") or data.get("text/plain") or "")
    return "".join(shown)


def result_of(cell: Any) -> str:
    """Return the cell's result; a card may precede it if a wait was long."""
    [result] = [each for each in cell["outputs"] if each["output_type"] == "execute_result"]
    return str(result["data"]["text/plain"])


def execute(path: Path, folder: Path) -> dict[str, Any]:
    """Run all cells in a new kernel; the cells by their ids."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=300,  # of a cell; on a busy machine the fits take minutes
        kernel_name="nbqueue-test",
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute()
    except Exception:
        # Workers outlive a kernel; no other test must find them.
        for pid in workers_of(folder):
            psutil.Process(pid).terminate()
        raise
    return {cell["id"]: cell for cell in notebook.cells}


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_quickstart_runs_from_top_to_bottom(jupyter: Path) -> None:
    cells = execute(QUICKSTART, jupyter)
    shown = {name: text_of(cell) for name, cell in cells.items()}
    assert result_of(cells["call"]) == "6"
    assert "2 slots" in shown["workers"]
    # Both displays of the group are settled, that of the cell which did not wait, too.
    for name in ("map", "wait"):
        assert re.fullmatch(r"✓ completed  search  48 of 48  [\w ]+", shown[name])
        [card] = cells[name]["outputs"]
        assert WIDGET not in card["data"]
    best = float(re.search(r"mean accuracy: ([\d.]+)", shown["best"])[1])  # type: ignore[index]
    assert best > 0.98
    assert re.search(r"completed +48", shown["attempts"])
    # The killed executor was computing a fit: its attempt is lost, and a second one completed.
    assert "killed process" in shown["kill"]
    assert re.search(r"lost +1", shown["attempts"])
    assert "SIGKILL" in shown["lost"]
    assert "KeyError: 'oracle'" in shown["error"]
    assert "traceback on the worker" in shown["error"]
    assert float(result_of(cells["again"])) > 0.98
    assert re.search(r"search +48 +48 +0", result_of(cells["groups"]))
    [picture] = cells["timeline"]["outputs"]
    assert picture["data"]["image/png"]
    assert 'alt="Timeline: ' in picture["data"]["text/html"]
    assert not workers_of(jupyter)


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_all_that_is_shown_in_the_second_notebook_is_there(jupyter: Path) -> None:
    cells = execute(WATCH, jupyter)
    shown = {name: text_of(cell) for name, cell in cells.items()}
    assert "worker" in shown["up"]
    assert "is ready" in shown["up"]
    # The duration is shown if it was some seconds: it depends on the machine.
    assert re.match(r"✓ completed  one network(  [\d.]+m?s)?  → 0\.\d+  \(id ", shown["one"])
    assert float(result_of(cells["await"])) > 0.9
    assert "epoch 100: accuracy 0.9" in shown["output"]
    assert any("image/png" in output.get("data", {}) for output in cells["output"]["outputs"])
    assert "✗ failed  train  12 of 12  2 failed" in shown["group"]
    assert "ValueError: hidden_layer_sizes must be > 0" in shown["error"]
    assert "here, too: hidden_layer_sizes must be > 0" in shown["replay"]
    assert "10 of 10  2 failed" in shown["late"]
    assert shown["select"].count("No such file") == 2
    assert shown["retry"] == "<retry: 2 done>"
    assert re.fullmatch(r"\[\d\.\d+, \d\.\d+\]", result_of(cells["retried"]))
    # The panel is saved as it is when a later cell has ended.
    assert re.search("2 archived, 2[1-9] completed", shown["panel"])
    assert re.search(r"train +13 +11 +2 ", shown["stats"])
    for name in ("timeline", "durations"):
        [picture] = cells[name]["outputs"]
        assert picture["data"]["image/png"]
        assert "25 attempts" in shown[name]
    assert "Schedule 'morning' '0 7 * * mon-fri' (Europe/Paris) ink next in" in shown["schedule"]
    assert "enqueued" in shown["history"]
    assert "morning" in shown["schedules"]
    assert "1 worker with 2 slots" in shown["status"]
    assert shown["down"] == "1 worker ended"
    # A saved widget is a dead one, and the panel stays live. All other displays are settled.
    for name, cell in cells.items():
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            assert WIDGET not in data, name
            assert ("shows it live" in data.get("text/html", "")) == (name == "panel"), name
    assert not workers_of(jupyter)


def workers_of(folder: Path) -> list[int]:
    """Processes of workers that were started from a notebook in ``folder``."""
    found = []
    for process in psutil.process_iter():
        try:
            if "nbqueue.worker" in process.cmdline() and process.cwd() == os.path.realpath(folder):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_is_stored_with_outputs_that_anybody_can_read(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any(cell.outputs for cell in code)
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error"
            # A saved widget is a dead one.
            assert WIDGET not in output.get("data", {})
    text = path.read_text()
    assert not re.search(r"/(home|root|Users|work)/", text), "a path of the author's machine"
    assert path.stat().st_size < 500_000
