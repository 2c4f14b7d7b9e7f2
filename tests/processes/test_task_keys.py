"""No task, and nothing that a task starts, makes a signing key."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbqueue
from nbqueue import NoSigningKey
from nbqueue.store.embedded import stop_server
from nbqueue.worker.worker import Worker

WAIT = 30.0
KEY = "5b" * 32

PROGRAM = """
import sys, nbqueue
try:
    nbqueue.connect(sys.argv[1])
except Exception as error:
    print(type(error).__name__)
else:
    print("connected")
"""


def connected(url: str) -> str:
    try:
        nbqueue.connect(url).close()
    except NoSigningKey as error:
        return f"NoSigningKey: {error}"
    return "connected"


def without_marks(url: str) -> str:
    before = dict(os.environ)
    os.environ.clear()
    os.environ["XDG_CONFIG_HOME"] = before["XDG_CONFIG_HOME"]
    try:
        return connected(url)
    finally:
        os.environ.update(before)


def in_subprocess(url: str) -> str:
    words = [sys.executable, "-c", PROGRAM, url]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def in_bare_subprocess(url: str) -> str:
    environ = {"XDG_CONFIG_HOME": os.environ["XDG_CONFIG_HOME"], "HOME": "/nowhere"}
    words = [sys.executable, "-c", PROGRAM, url]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=True)
    return done.stdout


def in_fork(url: str) -> str:
    read, write = os.pipe()
    if os.fork() == 0:
        del os.environ["NBQUEUE_IN_TASK"]
        os.write(write, connected(url).encode())
        os._exit(0)
    os.close(write)
    with open(read) as file:
        return file.read()


def in_spawned(url: str) -> str:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return str(pool.apply(eval, (f"__import__('nbqueue').connect({url!r}) and 'connected'",)))


WAYS: list[Callable[[str], str]] = [
    connected, without_marks, in_subprocess, in_bare_subprocess, in_fork,
]  # fmt: skip


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for this user's key file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


class TestWorkerWithItsKeyInTheEnvironment:
    @pytest.fixture
    def q(self, lab: Any, config: Path) -> Iterator[Any]:
        lab.start_worker(concurrency=1)
        client = nbqueue.connect(lab.url, key=KEY)
        yield client
        client.close()

    def test_a_task_has_no_key_and_makes_none(self, lab: Any, q: Any, config: Path) -> None:
        for way in WAYS:
            assert q.submit(way, lab.url).result(WAIT).startswith("NoSigningKey"), way
        error = q.submit(in_spawned, lab.url).exception(WAIT)
        assert isinstance(error, NoSigningKey)
        said = q.submit(connected, lab.url).result(WAIT)
        assert "NBQUEUE_KEY" in said
        assert "connect(key=…)" in said
        assert not list(config.rglob("key"))
        assert q.submit(connect_with_key, lab.url, KEY).result(WAIT) == lab.url

    def test_no_store_is_started_for_it(self, q: Any, tmp_path: Path) -> None:
        home = tmp_path / "other"
        assert "NoSigningKey" in q.submit(connected, f"embedded://{home}").result(WAIT)
        assert not home.exists()

    def test_a_future_that_is_an_argument_says_so_too(self, lab: Any, q: Any, config: Path) -> None:
        future = q.options(queue="closed").submit(abs, -1)
        error = q.submit(lambda pickled: pickled.result(1), future).exception(WAIT)
        assert isinstance(error, NoSigningKey)
        assert not list(config.rglob("key"))


def connect_with_key(url: str, key: str) -> str:
    with nbqueue.connect(url, key=key) as client:
        return client.url


class TestWorkerWithAKeyFile:
    @pytest.fixture
    def url(self, tmp_path: Path, config: Path) -> Iterator[str]:
        home = tmp_path / "s"
        url = f"embedded://{home}"
        worker = Worker(url, concurrency=1, log=tmp_path / "log").start()
        try:
            yield url
        finally:
            worker.stop()
            stop_server(home)

    def test_a_task_uses_the_key_file_that_is_there(self, url: str, tmp_path: Path) -> None:
        with nbqueue.connect(url) as q:
            for way in WAYS:
                assert q.submit(way, url).result(WAIT).strip() == "connected", way
            assert q.submit(submit_another, url).result(WAIT) == 5

    def test_a_task_makes_none_for_another_store(
        self, url: str, tmp_path: Path, store: Any, config: Path
    ) -> None:
        other = f"unix://{store.redis.connection_pool.connection_kwargs['path']}"
        with nbqueue.connect(url) as q:
            for way in WAYS:
                assert q.submit(way, other).result(WAIT).startswith("NoSigningKey"), way
        assert not (config / "nbqueue").exists()


def submit_another(url: str) -> Any:
    with nbqueue.connect(url) as q:
        future = q.options(queue="closed").submit(abs, -5)
        future.cancel()
        return 5
