"""Modules that each kind of process loads, seen in fresh interpreters.

import-linter reads the sources and cannot see what an import runs in the end; these tests can. They
measure no time: a module that is not loaded costs none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from nbqueue.store.embedded import stop_server

ROOT = Path(__file__).parents[2]
BARE = {"nbqueue", "nbqueue.lazy_names", "nbqueue.moved_modules"}
HEAVY = frozenset(
    {"pandas", "numpy", "ipywidgets", "anywidget", "IPython", "ipykernel", "matplotlib", "rich"}
)


def loaded_by(code: str, *arguments: str) -> set[str]:
    """Return the top-level modules, and nbqueue's in full, loaded after ``code``."""
    tell = "\nimport sys as _s, json as _j\nprint(_j.dumps(sorted(_s.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + tell, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    modules = json.loads(done.stdout.splitlines()[-1])
    return {name if name.startswith("nbqueue") else name.split(".")[0] for name in modules}


def test_the_package_alone_loads_nothing_but_itself() -> None:
    loaded = loaded_by("import nbqueue")
    assert {name for name in loaded if name.startswith("nbqueue")} == BARE
    others = HEAVY | {"redis", "hiredis", "google", "cloudpickle", "click", "psutil", "asyncio"}
    assert not loaded & others


def test_the_helpers_of_tests_load_nothing_before_they_are_used() -> None:
    loaded = loaded_by("import nbqueue.testing\nassert 'eager' in dir(nbqueue.testing)")
    assert {n for n in loaded if n.startswith("nbqueue")} == {*BARE, "nbqueue.testing"}
    assert not loaded & (HEAVY | {"redis", "cloudpickle", "pytest"})


def test_a_client_loads_no_frames_and_no_widgets(tmp_path: Path) -> None:
    url = f"embedded://{tmp_path / 's'}"
    try:
        loaded = loaded_by("import sys, nbqueue\nq = nbqueue.connect(sys.argv[1])", url)
    finally:
        stop_server(tmp_path / "s")
    assert not loaded & (HEAVY | {"click"})


@pytest.mark.parametrize("module", ["nbqueue.cli.main", "nbqueue.worker.wiring"])
def test_a_worker_loads_no_frames_and_no_widgets(module: str) -> None:
    assert not loaded_by(f"import {module}") & HEAVY


def test_the_command_line_loads_no_store_before_it_knows_what_to_do() -> None:
    loaded = loaded_by("import nbqueue.cli.main")
    assert not loaded & {"redis", "google", "cloudpickle", "psutil"}


def test_an_executor_that_runs_a_task_holds_no_key_and_no_connection(tmp_path: Path) -> None:
    # The task itself returns what its process has loaded, and what it could reach.
    code = """
import sys, nbqueue
q = nbqueue.connect(sys.argv[1])
def look():
    import sys
    return sorted(sys.modules)
with nbqueue.Worker(sys.argv[1], concurrency=1):
    modules = q.submit(look).result("40s")
import json
print(json.dumps(modules))
"""
    url = f"embedded://{tmp_path / 's'}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, url],
            capture_output=True,
            text=True,
            timeout=55,
            env=os.environ | {"NBQUEUE_KEY": "5b" * 32},
        )
    finally:
        stop_server(tmp_path / "s")
    assert done.returncode == 0, done.stderr
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    top = {name.split(".")[0] for name in modules}
    assert not top & (HEAVY | {"redis", "hiredis", "google", "click"})
    forbidden = ("nbqueue.store", "nbqueue.broker", "nbqueue.wire", "nbqueue.client")
    assert not [name for name in modules if name.startswith(forbidden)]
    assert not modules & {"nbqueue.calls.keys.signing", "nbqueue.calls.keys.key_file"}
    assert not [p for p in psutil.process_iter(["name"]) if _serves(p, tmp_path)]


def _serves(process: psutil.Process, home: Path) -> bool:
    try:
        return "server" in process.info["name"] and process.cwd() == str(home / "s")
    except psutil.Error:
        return False
