"""Connections of a worker are asked for by queue, lost together, and opened again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nbqueue.broker.next_due import upcoming
from nbqueue.runtime.reactor import Reactor
from nbqueue.store.connection import Store
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.served_queues import ServedQueues

SECONDS = 10.0


class Loop:
    """A reactor with a worker's connections for one queue, run until a test stops it."""

    def __init__(self, store: Store) -> None:
        self.reactor = Reactor()
        self.queues = ServedQueues({"q": 1})
        self.connections = WorkerConnections(self.reactor, store, self.queues)
        self.reactor.every_round(self.connections.flush)
        self.reactor.every_round(self._stop_when_done)
        self._is_done: Callable[[], bool] = lambda: False
        self.events: list[str] = []
        self.connections.on_up.append(lambda: self.events.append("up"))
        self.connections.on_down.append(lambda: self.events.append("down"))

    def run_until(self, is_done: Callable[[], bool]) -> None:
        """Run rounds until ``is_done()``; fail after some seconds."""
        end = self.reactor.after(SECONDS, self.reactor.stop)
        self._is_done = is_done
        self.connections.flush()
        self.reactor.run()
        end.cancel()
        assert is_done()

    def _stop_when_done(self) -> None:
        if self._is_done():
            self.reactor.stop()


@pytest.fixture
def loop(store: Store) -> Iterator[Loop]:
    loop = Loop(store)
    yield loop
    loop.connections.close()
    loop.reactor.close()


@pytest.mark.parametrize("kind", ["tasks", "upkeep"])
def test_a_connection_that_is_not_up_drops_commands(loop: Loop, kind: str) -> None:
    connection = getattr(loop.connections, kind)("q")
    replies: list[Any] = []
    assert not connection.is_up
    assert not loop.connections.awaits_reply
    connection.call(("PING",), replies.append)
    connection.send(upcoming("q"), replies.append, is_tracked=True)
    loop.connections.connect()
    loop.connections.tasks("q").call(("ECHO", "later"), replies.append)
    assert loop.connections.awaits_reply
    loop.run_until(lambda: bool(replies))
    assert replies == [b"later"]


def test_all_connections_are_lost_with_one_and_opened_again(loop: Loop, redis: Any) -> None:
    loop.connections.connect()
    before = loop.connections.tasks("q"), loop.connections.upkeep("q")
    ids: list[int] = []
    loop.connections.upkeep("q").call(("CLIENT", "ID"), ids.append)
    loop.run_until(lambda: bool(ids))
    redis.client_kill_filter(_id=ids[0])
    loop.run_until(lambda: loop.events == ["up", "down", "up"])
    after = loop.connections.tasks("q"), loop.connections.upkeep("q")
    assert loop.connections.is_up
    assert not set(before) & set(after)


def test_a_part_sees_no_connection_when_it_hears_of_the_loss(loop: Loop, redis: Any) -> None:
    seen: list[bool] = []
    loop.connections.on_down.append(lambda: seen.append(loop.connections.tasks("q").is_up))
    loop.connections.connect()
    ids: list[int] = []
    loop.connections.tasks("q").call(("CLIENT", "ID"), ids.append)
    loop.run_until(lambda: bool(ids))
    redis.client_kill_filter(_id=ids[0])
    loop.run_until(lambda: bool(seen))
    assert seen == [False]


def test_a_queue_that_was_added_has_a_connection_and_one_that_was_removed_has_none(
    loop: Loop,
) -> None:
    loop.connections.connect()
    added: list[str] = []
    loop.queues.replace({"q": 1, "other": 1})
    loop.connections.add_queue("other", added.append)
    loop.run_until(lambda: added == ["other"])
    replies: list[Any] = []
    loop.connections.blocking("other").call(("ECHO", "x"), replies.append)
    loop.run_until(lambda: bool(replies))
    assert replies == [b"x"]
    loop.queues.replace({"q": 1})
    loop.connections.remove_queue("other")
    loop.connections.blocking("other").call(("ECHO", "x"), replies.append)
    ids: list[int] = []
    loop.connections.tasks("q").call(("CLIENT", "ID"), ids.append)
    loop.run_until(lambda: bool(ids))
    assert replies == [b"x"]
