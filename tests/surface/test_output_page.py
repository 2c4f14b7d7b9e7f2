"""The example of docs/output.md works as described."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbqueue

PAGE = Path(__file__).parents[2] / "docs" / "output.md"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_example_prints_what_the_page_says(store_url: str, tmp_path: Path) -> None:
    [program] = PYTHON.findall(PAGE.read_text())
    path = tmp_path / "example.py"
    path.write_text(program)
    with nbqueue.Worker(store_url, concurrency=1, log=tmp_path / "log"):
        done = subprocess.run(
            [sys.executable, str(path)],
            capture_output=True,
            text=True,
            timeout=50,
            env=os.environ | {"NBQUEUE_URL": store_url},
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "epoch 0\nepoch 1\nepoch 2\nINFO train: done\n\nepochs: 100% 3/3, loss=0.3333\n"
    )
