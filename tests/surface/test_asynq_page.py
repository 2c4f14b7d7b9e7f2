"""The Python examples of docs/asynq.md work together as described."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbqueue

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "asynq.md"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(program: str, folder: Path, url: str) -> str:
    path = folder / "example.py"
    path.write_text(program)
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=folder,
        env=os.environ | {"NBQUEUE_URL": url},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_message_of_the_page_is_run_by_the_worker_of_the_page(
    store_url: str, client: nbqueue.Client, tmp_path: Any
) -> None:
    enqueue, serve = PYTHON.findall(PAGE.read_text())
    task_id = run(enqueue, tmp_path, store_url).strip()
    # In a burst, or the example would not end.
    worker = serve.replace('queues={"mail": 1}', 'queues={"mail": 1}, burst=True')
    assert worker != serve
    run(worker, tmp_path, store_url)
    assert client.get(task_id).result(20) == {"sent": 1}


def test_the_links_of_the_page_lead_somewhere() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        for name in re.findall(r"\]\(([\w./-]+)\)", page.read_text()):
            assert (page.parent / name).exists(), f"{page.name} links {name}, which is not there"
