"""The fixtures that other projects get, as their tests meet them."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import os
from pathlib import Path

import nbqueue
from nbqueue.testing import drain


def add(a, b):
    return a + b


def test_store(nbqueue_store, request):
    Path("url").write_text(nbqueue_store)
    assert os.environ["NBQUEUE_URL"] == nbqueue_store
    with nbqueue.connect() as q:
        future = q.submit(add, 1, 2)
        assert drain(q) == 1
        assert future.result(20) == 3


def test_worker(nbqueue_client, nbqueue_worker):
    assert nbqueue_client.attempts().empty
    assert nbqueue_client.submit(add, 1, 2).result(30) == 3
    nbqueue_client.serve("t", lambda task: task.type)
    assert nbqueue_client.enqueue("t", retention=60).result(30) == "t"


def test_each_test_has_a_store_of_its_own(nbqueue_client):
    assert nbqueue_client.attempts().empty
    assert nbqueue_client.url != Path("url").read_text()
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    clean = {name: text for name, text in os.environ.items() if not name.startswith("NBQUEUE_URL")}
    words = ("-p", "no:cacheprovider", "--rootdir", str(folder), *words)
    if not importlib.metadata.entry_points(group="pytest11", name="nbqueue"):
        words = ("-p", "nbqueue.testing.plugin", *words)  # an older installation of this folder
    words = (sys.executable, "-m", "pytest", "-q", *words)
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=55, env=clean)


@pytest.mark.slow
def test_the_fixtures_serve_a_project_of_somebody_else(
    tmp_path: Path, server_program: object
) -> None:
    (tmp_path / "test_theirs.py").write_text(TESTS)
    done = run(tmp_path, "-W", "error")
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    home = Path((tmp_path / "url").read_text().removeprefix("embedded://"))
    assert not home.parent.exists()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(home) in str(p.info["cmdline"])]


def test_a_test_that_asks_for_none_loads_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_none.py").write_text(
        "import sys\n"
        "ALLOWED = {'nbqueue', 'nbqueue.lazy_names', 'nbqueue.moved_modules',"
        " 'nbqueue.testing', 'nbqueue.testing.plugin'}\n"
        "def test_none():\n"
        "    loaded = {n for n in sys.modules if n.startswith('nbqueue')}\n"
        "    assert loaded <= ALLOWED, loaded\n"
        "    assert not {'redis', 'cloudpickle', 'google.protobuf'} & set(sys.modules)\n"
    )
    done = run(tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_pytest_finds_the_fixtures_by_itself() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert table["entry-points"]["pytest11"] == {"nbqueue": "nbqueue.testing.plugin"}


PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_page_run(tmp_path: Path, server_program: object) -> None:
    blocks = PYTHON.findall((ROOT / "docs" / "testing.md").read_text())
    assert len(blocks) >= 4
    (tmp_path / "jobs.py").write_text(blocks[0])
    for number, block in enumerate(blocks[1:]):
        (tmp_path / f"test_page_{number}.py").write_text(block)
    done = run(tmp_path, "-W", "error", "--import-mode=prepend")
    assert re.search(r"[4-9] passed", done.stdout), done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
