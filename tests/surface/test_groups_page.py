"""The example of docs/groups.md runs, as a reader would type it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from nbqueue.store.embedded import stop_server

PAGE = Path(__file__).parents[2] / "docs" / "groups.md"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_example_runs(tmp_path: Path) -> None:
    [block] = PYTHON.findall(PAGE.read_text())
    program = tmp_path / "groups.py"
    program.write_text(block + "\nq.close()\n")
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "NBQUEUE_URL": f"embedded://{tmp_path / 's'}",
        "PYTHONWARNINGS": "error",
    }
    try:
        done = subprocess.run(
            [sys.executable, str(program)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env=environment,
        )
    finally:
        stop_server(tmp_path / "s")
    assert done.returncode == 0, done.stderr
    assert "sent 3 in one e-mail" in done.stdout.splitlines()
