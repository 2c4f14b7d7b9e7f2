"""Scripts that the server lost in a flush or a restart are loaded again."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from keyspace import NOW_MS, encoded

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands import enqueue as enqueue_commands
from nbqueue.broker.commands import maintenance
from nbqueue.broker.new_tasks import ENQUEUED, EnqueueRequest
from nbqueue.errors import StoreError, StoreUnreachable
from nbqueue.store import server_programs
from nbqueue.store.connection import Store, connect
from nbqueue.store.embedded import stop_server
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.blocking import BlockingConnection
from nbqueue.transport.nonblocking import ConnectionLost, NonblockingConnection
from nbqueue.transport.script_call import Command


@pytest.fixture
def mortal(
    tmp_path: Path, server_program: server_programs.ServerProgram, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """A store of this test alone, whose server it may stop."""
    monkeypatch.setenv(server_programs.PROGRAM_VARIABLE, str(server_program.path))
    with connect(f"embedded://{tmp_path / 's'}") as found:
        yield found
    stop_server(tmp_path / "s")


def enqueue(task_id: str) -> Command[Any]:
    return enqueue_commands.enqueue("q", [NewTask(task_id, encoded(task_id))], NOW_MS)


def drain(link: NonblockingConnection, until: Callable[[], bool]) -> None:
    """Send and receive until the fact."""
    while not until():
        link.flush()
        ready, _, _ = select.select([link], [], [], 10)
        assert ready, "no reply came"
        link.read()


def test_a_channel_loads_scripts_again_after_a_flush(store: Store, redis: Any) -> None:
    channel = BlockingConnection(store)
    assert channel.run([enqueue("a")]) == [[]]
    redis.script_flush()
    forward = maintenance.forward("q", NOW_MS)
    assert channel.run([enqueue("b"), forward, enqueue("c"), enqueue("a")])[0::2] == [[], []]
    assert redis.lrange("asynq:{q}:pending", 0, -1) == [b"c", b"b", b"a"]
    channel.close()


def test_a_flush_between_two_scripts_of_a_batch_runs_each_of_them_once(
    store: Store, redis: Any
) -> None:
    channel = BlockingConnection(store)
    channel.run([enqueue("a"), enqueue_commands.store_code("q", b"f", b"blob", 1)])
    redis.script_flush()
    redis.script_load(enqueue("a").script.source)  # this one is there, the other is not
    batch = [enqueue("b"), enqueue_commands.store_code("q", b"f", b"new", 2), enqueue("b")]
    assert channel.run(batch) == [[], 1, [0]]
    assert redis.get("nbqueue:{q}:code:66") == b"new"
    channel.close()


def test_a_broker_goes_on_after_a_restart_of_the_server(mortal: Store) -> None:
    broker = Broker(mortal)
    broker.enqueue(EnqueueRequest("q", [NewTask("a", encoded("a"))]))
    stop_server(mortal.directory or Path())
    assert broker.enqueue(EnqueueRequest("q", [NewTask("b", encoded("b"))])) == ENQUEUED
    assert broker.enqueue(EnqueueRequest("q", [NewTask("a", encoded("a"))])).conflicts == [0]
    assert mortal.redis.lrange("asynq:{q}:pending", 0, -1) == [b"b", b"a"]
    broker.close()


def test_a_channel_says_that_the_connection_was_lost_and_opens_another(mortal: Store) -> None:
    channel = BlockingConnection(mortal)
    channel.run([enqueue("a")])
    stop_server(mortal.directory or Path())
    with pytest.raises(StoreUnreachable):
        channel.run([enqueue("b")])
    assert channel.run([enqueue("b")]) == [[]]
    channel.close()


def test_a_link_loads_scripts_again_after_a_flush(store: Store, redis: Any) -> None:
    link, replies = NonblockingConnection(store), []
    link.send(enqueue("a"), replies.append)
    drain(link, lambda: len(replies) == 1)
    redis.script_flush()
    for task_id in ("b", "c", "a"):
        link.send(enqueue(task_id), replies.append)
    drain(link, lambda: len(replies) == 4)
    assert replies == [[], [], [], [0]]
    assert redis.lrange("asynq:{q}:pending", 0, -1) == [b"c", b"b", b"a"]
    assert not link.under_way
    link.close()


def test_a_link_is_lost_with_the_server_and_a_new_one_loads_what_it_needs(mortal: Store) -> None:
    link, replies = NonblockingConnection(mortal), []
    link.send(enqueue("a"), replies.append)
    drain(link, lambda: len(replies) == 1)
    stop_server(mortal.directory or Path())
    with pytest.raises(ConnectionLost):
        drain(link, lambda: False)
    link.close()
    link = NonblockingConnection(mortal)
    link.send(enqueue("a"), replies.append)
    drain(link, lambda: len(replies) == 2)
    assert replies == [[], [0]]
    link.close()


def test_a_script_that_is_forgotten_at_once_is_sent_whole(store: Store, redis: Any) -> None:
    link, replies = NonblockingConnection(store), []
    redis.script_flush()
    link._loaded.add(enqueue("a").script.sha)
    call = link.call

    def forget(words: Any, on_reply: Any = None) -> None:
        call(("SCRIPT", "FLUSH") if words[:2] == ("SCRIPT", "LOAD") else words, on_reply)

    link.call = forget  # type: ignore[method-assign]
    link.send(enqueue("a"), replies.append)
    drain(link, lambda: bool(replies))
    link.send(enqueue("a"), replies.append)
    drain(link, lambda: len(replies) == 2)
    assert replies == [[], [0]]
    link.close()


def test_replies_of_a_link_come_in_order_however_they_are_cut(store: Store) -> None:
    link, replies = NonblockingConnection(store), []
    for number in range(500):
        link.call(("ECHO", str(number) * 500), replies.append)
    drain(link, lambda: len(replies) == 500)
    assert replies == [(str(n) * 500).encode() for n in range(500)]
    link.close()


def test_a_refusal_is_an_error_and_the_next_command_gets_its_own_reply(store: Store) -> None:
    channel = BlockingConnection(store)
    with pytest.raises(StoreError, match="WRONGTYPE"):
        channel.call(("SET", "s", "1"), ("LPUSH", "s", "x"), ("GET", "s"))
    assert channel.call(("GET", "s")) == [b"1"]
    channel.call(("DEL", "s"))
    channel.close()


def test_an_interrupted_exchange_leaves_no_reply_for_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = BlockingConnection(store)
    channel.call(("PING",))

    def interrupted(connection: Any, expected: int, slots: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(channel, "_receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            channel.call(("ECHO", "first"))
    assert channel.call(("ECHO", "second")) == [b"second"]
    channel.close()
