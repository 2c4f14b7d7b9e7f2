"""The store that is used if none is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbqueue.errors import InvalidURL
from nbqueue.store import default_store
from nbqueue.store.default_store import default_url, kept_store
from nbqueue.store.url import parse_url


@pytest.fixture(autouse=True)
def data_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    home = tmp_path / "data-home"
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name, appauthor=None: str(home / name))
    return home / "nbqueue" / "stores"


def test_the_variable_names_the_default_store() -> None:
    assert default_url("/", {"NBQUEUE_URL": " redis://h/3 "}) == parse_url("redis://h/3")
    with pytest.raises(InvalidURL, match="variable NBQUEUE_URL: 'redis://h/x'"):
        default_url("/", {"NBQUEUE_URL": "redis://h/x"})


@pytest.mark.parametrize("marker", [".git", "pyproject.toml"])
def test_all_folders_of_a_project_share_a_store(
    tmp_path: Path, data_home: Path, marker: str
) -> None:
    project = tmp_path / "My Analysis (2)"
    deep = project / "notebooks" / "old"
    deep.mkdir(parents=True)
    if marker == ".git":
        (project / marker).mkdir()
    else:
        (project / marker).touch()
    url = default_url(deep, {"NBQUEUE_URL": " "})
    assert url == default_url(project, {})
    assert url.scheme == "embedded"
    assert Path(url.path or "").parent == data_home
    assert Path(url.path or "").name.startswith("My-Analysis-2-")


def test_two_projects_of_one_name_have_two_stores(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place / "analysis" / ".git").mkdir(parents=True)
    urls = [default_url(tmp_path / place / "analysis", {}) for place in ("a", "b")]
    assert urls[0] != urls[1]


def test_a_link_to_a_project_leads_to_its_store(tmp_path: Path) -> None:
    (tmp_path / "real" / ".git").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert default_url(tmp_path / "link", {}) == default_url(tmp_path / "real", {})


@pytest.fixture
def loose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that belongs to no project, wherever the tests run."""
    monkeypatch.setattr(default_store, "project_of", lambda folder: None)
    folder = tmp_path / "loose"
    folder.mkdir()
    return folder


def test_all_folders_without_a_project_share_one_store(
    monkeypatch: pytest.MonkeyPatch, loose: Path
) -> None:
    monkeypatch.chdir(loose)
    shared = parse_url("embedded://default")
    assert default_url(environ={}) == default_url(os.getcwd(), {}) == default_url("/", {}) == shared
    assert kept_store(shared) == ""


def test_a_folder_whose_own_store_has_tasks_keeps_it_and_says_so(loose: Path) -> None:
    own = default_store._own_store(loose)
    folder = Path(own.path or "")
    folder.mkdir(parents=True)
    written = folder / "appendonly.aof"
    written.write_bytes(b"*2")  # a store that was started, and got no task
    assert default_url(loose, {}) == parse_url("embedded://default")
    written.write_bytes(b"*" * 1000)
    assert default_url(loose, {}) == own
    notice = kept_store(own, loose)
    assert notice.startswith(f"this folder uses its own store from before, {own.place}, as ")
    assert f"move {own.path} away" in notice
    folder.rename(folder.with_name("away"))
    assert default_url(loose, {}) == parse_url("embedded://default")
