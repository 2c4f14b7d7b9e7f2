"""The files for repo2docker in ``binder/`` fit the project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BINDER = ROOT / "binder"


def test_the_project_is_installed_with_extras_that_it_has() -> None:
    lines = (BINDER / "requirements.txt").read_text().splitlines()
    [project] = [line for line in lines if line.startswith("--editable")]
    assert project == "--editable .[all,demo]"
    text = (ROOT / "pyproject.toml").read_text()
    assert "\nall = [" in text
    assert "\ndemo = [" in text


def test_its_python_is_the_one_that_the_constraints_are_for() -> None:
    assert "--constraint ../constraints.txt" in (BINDER / "requirements.txt").read_text()
    version = (BINDER / "runtime.txt").read_text().strip().removeprefix("python-")
    assert f"with Python {version}." in (ROOT / "constraints.txt").read_text()


def test_it_opens_a_notebook_that_is_there() -> None:
    said = json.loads((BINDER / "jupyter_config.json").read_text())
    for app in ("ServerApp", "LabApp", "JupyterNotebookApp"):
        path = said[app]["default_url"].removeprefix("/lab/tree/")
        assert (ROOT / path).is_file()


def test_start_hands_over_to_the_command(tmp_path: Path) -> None:
    show = "import os, sys; print(os.environ['NBQUEUE_URL'], sys.argv[1:])"
    environment = {name: value for name, value in os.environ.items() if name != "NBQUEUE_URL"}
    done = subprocess.run(
        [str(BINDER / "start"), sys.executable, "-c", show, "--ip", "a b"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=True,
    )
    assert done.stdout == "embedded://default ['--ip', 'a b']\n"
    assert os.access(BINDER / "postBuild", os.X_OK)
