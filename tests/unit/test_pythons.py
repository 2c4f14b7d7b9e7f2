"""Interpreters that `make test-pythons` finds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import pythons


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH, where a shim of pyenv has no version to start."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for minor in pythons.MINORS:
        program(tmp_path / "bin" / f"python3.{minor}", "echo 'no version is set' >&2; exit 127")
    return tmp_path


def test_an_interpreter_that_does_not_start_is_skipped_with_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pythons.find(10) is None
    assert capsys.readouterr().out == f"skipped: {folder}/bin/python3.10: no version is set\n"


def test_the_newest_of_pyenv_that_starts_is_found(folder: Path) -> None:
    program(folder / "bin" / "pyenv", f"echo {folder}")
    for patch, says in (("9", "echo 3.12"), ("10", "echo 3.12"), ("11", "echo 3.11")):
        program(folder / "versions" / f"3.12.{patch}" / "bin" / "python3.12", says)
    assert pythons.find(12) == str(folder / "versions" / "3.12.10" / "bin" / "python3.12")


def test_this_interpreter_is_found_on_the_path(folder: Path) -> None:
    minor = sys.version_info.minor
    (folder / "bin" / f"python3.{minor}").unlink()
    program(folder / "bin" / f"python3.{minor}", f'exec {sys.executable} "$@"')
    assert pythons.find(minor) == str(folder / "bin" / f"python3.{minor}")
