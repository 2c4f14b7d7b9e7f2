"""Metadata of the package: names, version, changelog, contracts."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nbqueue

ROOT = Path(__file__).parents[2]


def project() -> dict[str, Any]:
    """The table ``project`` of pyproject.toml."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def test_every_public_name_is_there_and_documented() -> None:
    assert list(nbqueue.__all__) == sorted(set(nbqueue.__all__))
    for name in nbqueue.__all__:
        value = getattr(nbqueue, name)
        assert name in dir(nbqueue)
        if name != "__version__":
            assert (value.__doc__ or "").strip(), f"{name} has no docstring"


def test_every_error_that_the_tree_names_is_public() -> None:
    errors = importlib.import_module("nbqueue.errors")
    kinds = {
        n
        for n, v in vars(errors).items()
        if isinstance(v, type) and issubclass(v, Exception) and not issubclass(v, Warning)
        if v.__module__ == errors.__name__
    }
    assert kinds <= set(nbqueue.__all__)
    for name in kinds:
        assert name in (errors.__doc__ or ""), f"{name} is missing in the tree of errors"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        nbqueue.nope  # noqa: B018


def test_the_version_is_the_same_everywhere() -> None:
    assert project()["version"] == nbqueue.__version__
    assert importlib.metadata.version("nbqueue") == nbqueue.__version__


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[([^\]]+)\] - (\S+)$", text, re.MULTILINE)
    assert versions, "no heading such as '## [0.1.0] - 2026-01-31'"
    assert versions[0][0] == nbqueue.__version__
    assert re.fullmatch(r"unreleased|\d{4}-\d\d-\d\d", versions[0][1])


def test_imports_keep_the_contract() -> None:
    program = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("import-linter is not installed beside this Python")
    done = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_package_is_in_the_constraints() -> None:
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    wanted = [*project()["dependencies"]]
    for extra in project()["optional-dependencies"].values():
        wanted += extra
    names = {re.match(r"[\w.-]+", each)[0].lower().replace("_", "-") for each in wanted}  # type: ignore[index]
    assert names - {"nbqueue"} <= pinned, "run make lock"
