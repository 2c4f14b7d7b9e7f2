"""Files in the current folder whose names are those of modules that nbqueue needs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

STANDARD = (
    "queue types token logging struct random socket signal json selectors heapq enum re "
    "threading subprocess asyncio runpy importlib traceback contextlib tempfile ctypes inspect"
)
INSTALLED = "nbqueue redis hiredis cloudpickle google croniter psutil platformdirs click"
NBQUEUE = Path(sys.executable).parent / "nbqueue"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder full of such files, half of them as packages; it is the current one."""
    made = tmp_path / "work"
    made.mkdir()
    for number, name in enumerate(f"{STANDARD} {INSTALLED}".split()):
        text = f"raise RuntimeError('{name} of the current folder')\n"
        if number % 2:
            (made / name).mkdir()
            (made / name / "__init__.py").write_text(text)
        else:
            (made / f"{name}.py").write_text(text)
    (made / "own_module.py").write_text("def answer():\n    return 42\n")
    (made / "numpy.py").write_text("name = 'of the folder'\n")
    monkeypatch.chdir(made)
    return made


def imported() -> tuple[int, str, str]:
    import queue

    import numpy
    import own_module

    return own_module.answer(), numpy.name, os.path.basename(os.path.dirname(queue.__file__))


async def imported_by_a_coroutine() -> tuple[int, str, str]:
    return imported()


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_a_worker_runs_in_a_folder_with_any_files(lab: Any, folder: Path, executor: str) -> None:
    with lab.worker(executor=executor):
        found = (42, "of the folder", f"python3.{sys.version_info[1]}")
        assert lab.value(lab.submit(imported)) == found
        assert lab.value(lab.submit(imported_by_a_coroutine)) == found


def test_a_health_check_runs_in_a_folder_with_any_files(lab: Any, folder: Path) -> None:
    def check(error: Exception | None) -> None:
        import own_module

        with open(os.environ["CHECKED"], "a") as file:
            file.write(f"{own_module.answer()} ")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHECKED", lab.mark_file("checked"))
        with lab.worker(health_check=check, health_check_interval=0.1):
            assert lab.wait_until(lambda: lab.marks("checked"))[0] == "42"


def test_the_command_runs_in_a_folder_with_any_files(lab: Any, folder: Path) -> None:
    environment = {**os.environ, "NBQUEUE_KEY": "5b" * 32}
    task = lab.submit(imported)
    words = [str(NBQUEUE), "worker", "--burst", "--url", lab.url]
    subprocess.run(words, env=environment, check=True, timeout=40)
    assert lab.value(task)[:2] == (42, "of the folder")


def test_the_embedded_store_starts_in_a_folder_with_any_files(folder: Path) -> None:
    # Not pytest's folder: the path of a socket may have 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="nbq-") as home:
        url = f"embedded://{home}"
        try:
            subprocess.run(
                [str(NBQUEUE), "worker", "--burst", "--url", url], check=True, timeout=40
            )
        finally:
            subprocess.run([str(NBQUEUE), "store", "stop", "--url", url], timeout=40)


def test_what_a_task_starts_finds_modules_of_the_folder_first(lab: Any, folder: Path) -> None:
    (folder / "colorsys.py").write_text("print('of the folder')\n")

    def start() -> str:
        words = [sys.executable, "-c", "import colorsys"]
        return subprocess.run(words, capture_output=True, text=True).stdout

    with lab.worker():
        assert lab.value(lab.submit(start)) == "of the folder\n"
