"""``nbqueue worker`` and ``nbqueue demo`` as programs of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import nbqueue
from nbqueue.store.embedded import stop_server

NBQUEUE = (sys.executable, "-m", "nbqueue.cli.main")


def test_a_worker_from_the_command_line_runs_tasks_until_it_is_told_to_end(tmp_path: Path) -> None:
    url = f"embedded://{tmp_path / 's'}"
    with open(tmp_path / "log", "wb") as log:
        worker = subprocess.Popen([*NBQUEUE, "worker", "-c", "1", "--url", url], stderr=log)
    q = nbqueue.connect(url)
    try:
        assert q.submit(sum, [1, 2, 3]).result("30s") == 6
        worker.send_signal(signal.SIGINT)
        assert worker.wait(20) == 0
    finally:
        worker.kill()
        worker.wait()
        q.close()
        stop_server(tmp_path / "s")
    said = (tmp_path / "log").read_text().splitlines()
    assert all(re.match(r"(INFO|WARNING) +\d\d:\d\d:\d\d  \S", line) for line in said), said
    assert "Ctrl-C ends this worker" in said[0]
    assert "worker ready" in said[1]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_finds_the_best_parameters_although_a_process_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [*NBQUEUE, "demo", "--output", "run.png"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
        text=True,
        timeout=230,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All 48 fits are in the results, each exactly once" in done.stdout
    assert "SIGKILL" in done.stdout
    accuracy = re.search(r"Best: .*mean accuracy ([\d.]+)", done.stdout)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.98
    assert (tmp_path / "run.png").stat().st_size > 10_000
    assert not list((tmp_path / "tmp").glob("nbqueue-demo-*"))
