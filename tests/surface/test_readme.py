"""The README's examples run, one after the other, as a reader would type them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from nbqueue.store.embedded import stop_server
from nbqueue.worker.worker import Worker

ROOT = Path(__file__).parents[2]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_readme_run(tmp_path: Path) -> None:
    blocks = PYTHON.findall((ROOT / "README.md").read_text())
    assert len(blocks) >= 4
    program = tmp_path / "readme.py"
    program.write_text("\n".join(blocks) + "\nq.close()\n")
    url = f"embedded://{tmp_path / 's'}"
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "NBQUEUE_URL": url,
        "PYTHONWARNINGS": "error",
    }
    try:
        with Worker(url, concurrency=2, log=tmp_path / "worker.log"):
            done = subprocess.run(
                [sys.executable, str(program)],
                capture_output=True,
                text=True,
                timeout=50,
                cwd=tmp_path,
                env=environment,
            )
    finally:
        stop_server(tmp_path / "s")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "6"
    assert any("invalid literal for int()" in line for line in said)


def test_the_commands_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"`make ([a-z-]+)`", text):
        assert target in targets
    for name in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (ROOT / name).exists(), f"{name} is linked, and not there"
