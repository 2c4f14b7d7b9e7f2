"""Commands reach the server that holds their keys, and replies come back in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from keyspace import NOW_MS, encoded

from nbqueue.broker.commands import enqueue as enqueue_commands
from nbqueue.errors import StoreDamaged
from nbqueue.store.connection import Store, connect
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.router import Router
from nbqueue.transport.script_call import Command
from nbqueue.transport.topology import ANYWHERE, Key, Place


class TwoServers:
    """Queue ``b`` and its keys are on the second server, everything else on the first.

    Two databases of one server stand for them, which share no keys either.
    """

    def __init__(self, first: Store, second: Store) -> None:
        self._first, self._second = first, second

    def server_for(self, place: Place) -> Store:
        if isinstance(place, Key):
            return self._second if "{b}" in str(place.name) else self._first
        return self._second if place == "b" else self._first


@pytest.fixture
def second(store: Store) -> Iterator[Store]:
    assert store.directory is not None
    socket = store.redis.config_get("unixsocket")["unixsocket"]
    with connect(f"unix://{socket}?db=1") as found:
        yield found


@pytest.fixture
def router(store: Store, second: Store) -> Iterator[Router]:
    found = Router(TwoServers(store, second))
    yield found
    found.close()


def enqueue(queue: str, task_id: str) -> Command[Any]:
    return enqueue_commands.enqueue(queue, [NewTask(task_id, encoded(task_id))], NOW_MS)


def test_scripts_run_where_their_first_key_is(router: Router, redis: Any, second: Store) -> None:
    batch = [enqueue("a", "1"), enqueue("b", "2"), enqueue("a", "3"), enqueue("b", "2")]
    assert router.run(batch) == [[], [], [], [0]]
    assert redis.lrange("asynq:{a}:pending", 0, -1) == [b"3", b"1"]
    assert second.redis.lrange("asynq:{b}:pending", 0, -1) == [b"2"]


def test_replies_of_plain_commands_are_in_the_order_of_the_calls(
    router: Router, redis: Any, second: Store
) -> None:
    for queue, place in (("a", redis), ("b", second.redis)):
        place.set(f"asynq:{{{queue}}}:x", queue)
    keys = {queue: ("GET", f"asynq:{{{queue}}}:x") for queue in "ab"}
    order = "babba"
    assert router.call_each((queue, keys[queue]) for queue in order) == [
        queue.encode() for queue in order
    ]
    assert router.call_each([]) == []


def test_damage_takes_the_place_of_its_reply_only(router: Router, redis: Any) -> None:
    redis.set("asynq:{a}:x", "text")
    calls: list[tuple[Place, Any]] = [
        ("b", ("LLEN", "asynq:{b}:x")),
        ("a", ("LLEN", "asynq:{a}:x")),
        (ANYWHERE, ("ECHO", "well")),
    ]
    there, damaged, well = router.try_call_each(calls)
    assert (there, well) == (0, b"well")
    assert isinstance(damaged, StoreDamaged)


def test_each_server_has_one_connection(router: Router) -> None:
    assert router.connection("a") is router.connection(Key("asynq:queues"))
    assert router.connection("b") is router.connection(Key("asynq:{b}:pending"))
    assert router.connection("a") is not router.connection("b")
