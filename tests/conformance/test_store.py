"""Connecting to a store of any kind, losing it and coming back."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from waits import wait_until

import nbqueue
from nbqueue.broker.broker import Broker
from nbqueue.client.client import Client
from nbqueue.store.connection import Store, connect
from nbqueue.store.url import parse_url


def test_a_store_says_what_it_is_and_never_its_password(store: Store, url: str) -> None:
    assert store.url == parse_url(url)
    assert store.server_version >= (6, 0, 0)
    for text in (repr(store), str(store.url.redacted), repr(nbqueue.connect(url))):
        assert "same" not in text


def test_what_one_connection_writes_another_reads(url: str, store: Store, redis: Any) -> None:
    nbqueue.connect(url).submit(int, 1)
    with connect(url) as other:
        assert other.redis.keys("*") == redis.keys("*") != []


@pytest.mark.parametrize("size", [0, 1, 16_384, 1_000_001, 12_000_000])
def test_a_message_of_every_size_is_read_back_whole(q: Client, size: int) -> None:
    data = os.urandom(size)
    future = q.enqueue("t", data)
    record = q._session.broker.find(future.id)
    assert record is not None
    assert (record.state, record.message.payload) == ("pending", data)


def test_a_lost_connection_is_opened_again_and_nothing_is_enqueued_twice(
    q: Client, redis: Any
) -> None:
    ids = [q.submit(int, i).id for i in range(3)]
    for _ in range(3):
        redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        ids += [q.submit(int, i).id for i in range(3)]
    assert len({*ids}) == len(ids) == 12
    assert q.inspector.queue("default").pending == 12
    assert all(q.get(each).state == "pending" for each in ids)


def test_scripts_that_the_server_forgot_are_loaded_again(q: Client, redis: Any) -> None:
    q.submit(int, 1)
    redis.script_flush()
    assert q.submit(int, 2).state == "pending"
    redis.script_flush()
    assert len(q.map(int, range(500))) == 500
    assert q.inspector.queue("default").pending == 502


def test_tasks_are_submitted_while_the_server_keeps_forgetting_scripts(
    q: Client, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reply is followed by a flush, so that loading a script is not enough."""
    channel = q._session.broker._router.connection("default")
    receive = channel._receive

    def forgetting(*args: Any) -> Any:
        found = receive(*args)
        redis.script_flush()
        return found

    monkeypatch.setattr(channel, "_receive", forgetting)
    assert q.submit(int, 1).state == "pending"
    assert q.submit(int, 2).state == "pending"
    assert len(q.map(int, range(300))) == 300
    assert q.inspector.queue("default").pending == 302


def test_threads_share_a_client(q: Client) -> None:
    ids: list[str] = []

    def submit() -> None:
        for i in range(50):
            ids.append(q.submit(int, i).id)

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*ids}) == 200
    assert q.inspector.queue("default").pending == 200


def test_a_broker_measures_the_clock_of_the_store(store: Store, redis: Any) -> None:
    broker = Broker(store)
    try:
        seconds, _ = redis.time()
        assert abs(broker.clock.now() - seconds) < 5
    finally:
        broker.close()


def test_what_is_published_arrives_at_whoever_subscribed(url: str, q: Client, redis: Any) -> None:
    with connect(url) as other:
        messages = other.redis.pubsub()
        messages.subscribe("asynq:cancel")
        assert messages.get_message(timeout=10) is not None
        q._session.broker.publish("asynq:cancel", "some-id")
        got = wait_until(lambda: messages.get_message(timeout=0.1))
        assert got["data"] == b"some-id"
        messages.close()
