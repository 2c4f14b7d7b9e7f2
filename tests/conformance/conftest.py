"""The kinds of stores that all tests of this folder run on.

They behave alike, whatever the URL. A new kind of store is one more entry of `STORES`, and passes
without a change of the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from clusters import RedisCluster
from sentinel_group import SentinelGroup
from servers import Server, Tunnel, make_certificate

import nbqueue
from nbqueue.client.client import Client
from nbqueue.store.connection import Store, connect
from nbqueue.store.embedded import stop_server
from nbqueue.store.server_programs import ServerProgram

PASSWORD = "se same/:@"
IN_URL = "se%20same%2F%3A%40"

Start = Callable[[ServerProgram, Path], Any]


@contextmanager
def embedded(program: ServerProgram, folder: Path) -> Iterator[str]:
    """A private server on a Unix socket, which connecting starts."""
    home = folder / "s"
    yield f"embedded://{home}"
    stop_server(home)


@contextmanager
def tcp(program: ServerProgram, folder: Path) -> Iterator[str]:
    """A server on TCP, with a password and the database 3."""
    server = Server.start(program.path, folder, "--requirepass", PASSWORD)
    try:
        yield f"redis://:{IN_URL}@127.0.0.1:{server.port}/3"
    finally:
        server.end()


@contextmanager
def tls(program: ServerProgram, folder: Path) -> Iterator[str]:
    """A server behind TLS, with a certificate of its own and a password."""
    server = Server.start(program.path, folder, "--requirepass", PASSWORD)
    certificate = make_certificate(folder)
    try:
        with Tunnel(certificate, server.port) as tunnel:
            yield (f"rediss://:{IN_URL}@localhost:{tunnel.port}/1?ssl_ca_certs={certificate[0]}")
    finally:
        server.end()


@contextmanager
def sentinel(program: ServerProgram, folder: Path) -> Iterator[str]:
    """A master with a replica behind a Sentinel, with passwords and the database 2."""
    group = SentinelGroup(
        program.path,
        folder,
        password=PASSWORD,
        sentinel_password=PASSWORD,
        down_after_ms=60_000,
        sentinels=1,
    )
    try:
        yield group.url_of(group.sentinels, db=2)
    finally:
        group.end()


@contextmanager
def cluster(program: ServerProgram, folder: Path) -> Iterator[str]:
    """Three masters with a replica each, and a password."""
    started = RedisCluster(program.path, folder, password=PASSWORD)
    try:
        yield started.url.replace("://", f"://:{IN_URL}@")
    finally:
        started.close()


STORES: dict[str, Start] = {
    "embedded": embedded,
    "tcp": tcp,
    "tls": tls,
    "sentinel": sentinel,
    "cluster": cluster,
}


@pytest.fixture(scope="session", params=STORES)
def url(
    request: pytest.FixtureRequest,
    server_program: ServerProgram,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The URL of a store of each kind, for the whole run."""
    with STORES[request.param](server_program, tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture(scope="session")
def _shared_store(url: str) -> Iterator[Store]:
    with connect(url) as store:
        yield store


@pytest.fixture
def store_url(store: Store, url: str) -> str:
    return url


@pytest.fixture
def q(store_url: str) -> Iterator[Client]:
    found = nbqueue.connect(store_url)
    yield found
    found.close()


@pytest.fixture(scope="module")
def worker(url: str, _shared_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A worker for all tests of a module.

    They share its store, so each has queues of its own.
    """
    _shared_store.redis.flushall()
    with ExitStack() as ending:
        found = nbqueue.Worker(
            url,
            queues=["default", "low"],
            concurrency=2,
            log=tmp_path_factory.mktemp("log") / "worker.log",
        )
        found.handle("greet:", lambda task: {"hello": task.json()["name"]})
        found.start()
        ending.callback(found.stop)
        yield found
