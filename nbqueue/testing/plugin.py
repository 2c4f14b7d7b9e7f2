"""Fixtures for pytest: a store, a client of it, and a worker on it.

pytest finds them where nbqueue is installed. For tests that use none of them, nothing is loaded or
started.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nbqueue.client.client import Client
    from nbqueue.worker.worker import Worker


@pytest.fixture
def nbqueue_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty store, for one test.

    It is an embedded Redis with a folder and a key of its own.

    `nbqueue.connect` finds it without a URL, because ``NBQUEUE_URL`` names it during the test. It
    ends with the test. Where there is no Redis program, the test is skipped.
    """
    from nbqueue.errors import NoEmbeddedServer
    from nbqueue.store.embedded import ensure_server, stop_server

    # Not pytest's folder: the path of a socket may have 107 bytes only.
    folder = Path(tempfile.mkdtemp(prefix="nbq-"))
    home = folder / "s"
    try:
        try:
            ensure_server(home)
        except NoEmbeddedServer as error:
            pytest.skip(str(error))
        url = f"embedded://{home}"
        monkeypatch.setenv("NBQUEUE_URL", url)
        monkeypatch.delenv("NBQUEUE_KEY", raising=False)
        try:
            yield url
        finally:
            stop_server(home)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def nbqueue_client(nbqueue_store: str) -> Iterator[Client]:
    """A client of `nbqueue_store`. `nbqueue.testing.drain` runs its tasks, or `nbqueue_worker`."""
    import nbqueue

    client = nbqueue.connect(nbqueue_store)
    yield client
    client.close()


@pytest.fixture
def nbqueue_worker(nbqueue_store: str) -> Iterator[Worker]:
    """A started worker of two slots on the queue ``default`` of `nbqueue_store`.

    It also serves handlers that the test stores with `Client.serve`.
    """
    import nbqueue

    with nbqueue.Worker(nbqueue_store, concurrency=2) as worker:
        yield worker
