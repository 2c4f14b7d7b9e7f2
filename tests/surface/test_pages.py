"""The pages of the documentation refer only to files that exist."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{target} is linked, but does not exist"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_of_the_code_that_pages_name_exist(page: Path) -> None:
    for name in re.findall(r"`((?:nbqueue|tests)/[\w./]+)`", page.read_text()):
        assert (ROOT / name).exists(), f"{name} is named, but does not exist"


def test_the_index_lists_every_page() -> None:
    index = (DOCS / "index.md").read_text()
    for page in DOCS.glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in index


def test_scripts_that_the_concepts_name_exist() -> None:
    scripts = {path.name for path in (ROOT / "nbqueue" / "broker" / "lua").glob("*.lua")}
    named = set(re.findall(r"`(\w+\.lua)`", (DOCS / "concepts.md").read_text()))
    assert len(named) > 10
    assert named <= scripts


def test_functions_that_the_architecture_names_exist() -> None:
    page = (DOCS / "architecture.md").read_text()
    named = re.findall(r"`(nbqueue[\w.]*):([\w.]+)`", page)
    assert len(named) > 50
    for module, name in named:
        assert reduce(getattr, name.split("."), import_module(module)) is not None
