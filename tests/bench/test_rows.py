"""Each row of `make bench` can be measured. Speed is not judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")
ROWS = (
    *("floor", "A1", "A2", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N"),
    *("fairness", "workers", "queues", "clients", "sleeps"),
)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(RUN), *words], capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("row", ROWS)
def test_row_is_measured(row: str, tmp_path: Path) -> None:
    ended = run("--quick", "--rounds", "1", "--rows", row, "--json", str(tmp_path / "found"))
    assert ended.returncode == 0, ended.stderr
    found = json.loads((tmp_path / "found").read_text())
    assert not found["missing"]
    assert list(found["rows"]) == [row]
    figures = [figure for rounds in found["rows"][row].values() for figure in rounds]
    assert figures
    assert all(figure >= 0 for figure in figures)


def test_unknown_row_is_refused_and_the_rows_are_named() -> None:
    ended = run("--rows", "A1,X")
    assert ended.returncode == 2
    assert "there is no row X: choose from floor, A1, A2" in ended.stderr
    for row in ROWS:
        assert row in ended.stderr
