"""Calls are compatible with the version before the modules moved, in both directions.

`golden_calls` enqueued its cases, and ran them, with that version (``before``) and with this one
(``now``); all that was in the store is in files. Version 0.1 had its modules elsewhere, and
pickles name modules: see `nbqueue.moved_modules`.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import golden_calls
import pytest
from golden_calls import EXPECTED

import nbqueue
from nbqueue.client.client import Client

FILES = Path(__file__).parent / "golden_calls"
PROGRAM = Path(golden_calls.__file__)
BY_REFERENCE = {"reference", "future-back"}
"""Cases without code, which every version of Python runs."""

CASES = {
    name: value
    for name, value in EXPECTED.items()
    if sys.version_info[:2] == (3, 11) or name in BY_REFERENCE
}
"""The cases that this Python can run: the files were written by Python 3.11."""


@pytest.fixture(autouse=True)
def _key_of_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQUEUE_KEY", golden_calls.KEY)


@pytest.fixture
def q(_key_of_the_files: None, client: Client) -> Client:
    return client


def content_of(name: str) -> dict[str, Any]:
    with gzip.open(FILES / f"{name}.json.gz", "rt") as file:
        content: dict[str, Any] = json.load(file)
    return content


def run_program(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(nbqueue.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def what_came_of(q: Client) -> dict[str, Any]:
    return {name: golden_calls.shown(q.get(name)) for name in CASES}


@pytest.mark.parametrize("version", ["before", "now"])
def test_a_worker_runs_calls_of_both_versions(
    q: Client, redis: Any, store_url: str, version: str
) -> None:
    golden_calls.load(redis, content_of(f"{version}-enqueued"))
    run_program("work", store_url)
    assert what_came_of(q) == CASES
    assert_all_known_before(redis)


@pytest.mark.parametrize("version", ["before", "now"])
def test_a_client_reads_results_of_both_versions(q: Client, redis: Any, version: str) -> None:
    golden_calls.load(redis, content_of(f"{version}-done"))
    assert what_came_of(q) == CASES


def test_what_is_enqueued_now_is_understood_by_the_version_before(
    redis: Any, store_url: str
) -> None:
    run_program("enqueue", store_url)
    assert_all_known_before(redis)


def test_the_golden_files_of_now_are_understood_by_the_version_before(redis: Any) -> None:
    for name in ("now-enqueued", "now-done"):
        redis.flushall()
        golden_calls.load(redis, content_of(name))
        assert_all_known_before(redis)


def test_a_name_that_the_version_before_lacks_is_found(redis: Any) -> None:
    redis.set("k", b"some head" + pickle.dumps(nbqueue.moved_modules.install))
    with pytest.raises(AssertionError, match="moved_modules"):
        assert_all_known_before(redis)
    redis.set("k", pickle.dumps([__name__, "nbqueue.calls.keys"]))
    with pytest.raises(AssertionError, match="has no modules"):
        assert_all_known_before(redis)


# --- Which names pickles refer to ---------------------------------------------------------------


_DOTTED = re.compile(rb"nbqueue(?:\.[a-z_]+)+")


def assert_all_known_before(redis: Any) -> None:
    """Assert that all pickles in a store name only what the version before can import."""
    before = json.loads((FILES / "names_before.json").read_text())
    known, values = before["names"], list(values_of(redis))
    modules = {found.decode() for value in values for found in _DOTTED.findall(value)}
    new = sorted(m for m in modules - {*before["modules"]} if is_module(m))
    assert not new, f"the version before has no modules {new}"
    named = {name for value in values for name in names_in(value)}
    ours = {name for name in named if name[0].partition(".")[0] == "nbqueue"}
    unknown = [
        (module, name)
        for module, name in sorted(ours)
        if name.partition(".")[0] not in known.get(module, ())
    ]
    assert not unknown, f"the version before cannot load {unknown}"


def is_module(name: str) -> bool:
    path = Path(nbqueue.__file__).parents[1].joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def values_of(redis: Any) -> Iterator[bytes]:
    for kind, value in golden_calls.save(redis).values():
        if kind == "hash":
            yield from (each.encode("latin-1") for each in value.values())
        elif kind == "string":
            yield value.encode("latin-1")


def names_in(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the module and name of each reference of the pickles that ``data`` has in it."""
    start = data.find(b"\x80")
    while start >= 0:
        if data[start + 1 : start + 2] in (b"\x04", b"\x05"):
            reader = _NameReader(io.BytesIO(data[start:]))
            try:
                reader.load()
            except Exception:  # no pickle, or one whose stand-ins do not suffice
                pass
            yield from reader.names
        start = data.find(b"\x80", start + 1)


class _StandIn:
    """Takes the place of whatever a pickle refers to, and lets everything be done with it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> _StandIn:
        return _StandIn()

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass


class _NameReader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.names: set[tuple[str, str]] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.names.add((module, name))
        return _StandIn()

    def persistent_load(self, pid: Any) -> Any:
        return _StandIn()
