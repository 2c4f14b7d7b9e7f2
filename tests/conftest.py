"""Fixtures of all tests: one embedded Redis, emptied before each test that uses it.

Tests of the store itself, and tests that stop a server, start servers of their own.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from nbqueue.broker.broker import Broker
from nbqueue.clock import Clock
from nbqueue.errors import NoEmbeddedServer
from nbqueue.store import running_stores, server_programs
from nbqueue.store.connection import Store, connect
from nbqueue.store.embedded import stop_server

# Modules that tests import by name: importlib mode puts no folder of tests on the path.
sys.path.insert(0, str(Path(__file__).parent / "support"))

from keyspace import NOW_MS

# Speed is measured in benchmarks: an example that is slow on a busy machine is no fault.
settings.register_profile("nbqueue", deadline=None)
settings.load_profile("nbqueue")


def tested_program() -> server_programs.ServerProgram:
    """The Redis to test with: the one that the environment names, else that of the wheel.

    So what is installed on the machine does not change what is tested. Without a wheel it is what
    an embedded store would start.
    """
    in_wheel = server_programs._in_wheel()
    with pytest.MonkeyPatch.context() as patch:
        if not os.environ.get(server_programs.PROGRAM_VARIABLE) and in_wheel is not None:
            patch.setenv(server_programs.PROGRAM_VARIABLE, in_wheel)
        return server_programs.choose_program()


def pytest_report_header() -> str:
    try:
        return f"tests with a store run on: {tested_program()}"
    except NoEmbeddedServer:
        return "tests with a store are skipped: there is no Redis program"


@pytest.fixture(scope="session")
def server_program() -> server_programs.ServerProgram:
    """The Redis to test with. Without one, tests skip locally and fail in CI."""
    try:
        return tested_program()
    except NoEmbeddedServer as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session", autouse=True)
def _scrubbed_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test meets the user's own store, key or settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("NBQUEUE_") and name != server_programs.PROGRAM_VARIABLE:
                patch.delenv(name)
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        # Nor the stores of other tests, which run at the same time.
        patch.setattr(running_stores, "_SOCKETS", Path("/no sockets"))
        with contextlib.suppress(NoEmbeddedServer):
            # Embedded stores that tests start for themselves are of the same program.
            patch.setenv(server_programs.PROGRAM_VARIABLE, str(tested_program().path))
        yield


@pytest.fixture(scope="session")
def _shared_store(
    server_program: server_programs.ServerProgram, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    home = tmp_path_factory.mktemp("store") / "s"
    with pytest.MonkeyPatch.context() as patch:
        # One program for all tests, so that a start costs no search.
        patch.setenv(server_programs.PROGRAM_VARIABLE, str(server_program.path))
        with connect(f"embedded://{home}") as store:
            yield store
        stop_server(home)


@pytest.fixture
def store(_shared_store: Store) -> Store:
    """A store with nothing in it."""
    _shared_store.redis.flushall()
    return _shared_store


@pytest.fixture
def store_url(store: Store) -> str:
    """The URL of a store with nothing in it."""
    return f"embedded://{store.directory}"


@pytest.fixture
def redis(store: Store) -> Any:
    """A client of redis-py on the same store, to look and to meddle."""
    return store.redis


class StillClock(Clock):
    """A clock that stands still until a test moves it."""

    def __init__(self, at_ms: int = NOW_MS) -> None:
        super().__init__()
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return self.at_ms

    def now(self) -> float:
        return self.at_ms / 1000

    def advance(self, seconds: float) -> int:
        self.at_ms += round(seconds * 1000)
        return self.at_ms


@pytest.fixture
def clock() -> StillClock:
    """The clock of `broker`."""
    return StillClock()


@pytest.fixture
def broker(store: Store, clock: StillClock) -> Iterator[Broker]:
    """A broker whose time stands still."""
    found = Broker(store)
    found.clock = clock
    yield found
    found.close()


@pytest.fixture
def client(store_url: str) -> Iterator[Any]:
    """A client of a store with nothing in it."""
    import nbqueue

    found = nbqueue.connect(store_url)
    yield found
    found.close()
