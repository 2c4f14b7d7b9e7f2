"""Views while the store is away: they show it, never block, and recover."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

import nbqueue
from nbqueue.notebook.group_card import GroupCard
from nbqueue.notebook.panel.panel import Panel
from nbqueue.notebook.task_card import FutureCard


class Watcher:
    """Stands for the display of a view."""

    def changed(self) -> None:
        pass


@pytest.fixture
def client(lab: Any) -> Iterator[nbqueue.Client]:
    found = nbqueue.connect(lab.url)
    yield found
    found.close()


def test_views_say_that_the_store_is_away_and_recover(lab: Any, client: nbqueue.Client) -> None:
    future, group = client.submit(abs, -3), client.map(abs, range(3))
    views = [FutureCard(future), GroupCard(group), Panel(client)]
    watcher: Any = Watcher()
    for view in views:
        view.began(watcher)
        assert "pending" in view.html(live=True) or "0 of 3" in view.html(live=True)
    lab.wait_until(lambda: lab.redis.client_list(_type="normal"))
    lab.server.kill()
    lab.wait_until(lambda: all("the store is away" in view.html(live=True) for view in views))
    begun = time.monotonic()
    for view in views:
        view.html(live=True)
    # One thread draws all views of a kernel: a wait here would hold up all of them.
    assert time.monotonic() - begun < 0.5
    lab.server.start()
    lab.wait_until(lambda: not any("store is away" in view.html(live=True) for view in views), 30)
    future.cancel()
    lab.wait_until(lambda: "cancelled" in views[0].html(live=True), 30)
    lab.wait_until(lambda: "archived" in views[2].html(live=True), 30)
    for view in views:
        view.ended(watcher)
