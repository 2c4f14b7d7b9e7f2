"""Plain tasks one after the other: the same commands, packed in fewer steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keyspace import NOW_MS, Zset, dump, encoded, load, task
from transitions import events

from nbqueue.broker import commands, resp
from nbqueue.broker.commands import NewTask
from nbqueue.broker.producing import OneByOne

CODE = b"%\xab"
WITH_CODE = {"own:code:25ab": "blob", "own:codes": Zset({"25ab": 5})}
NOTED, NOT_NOTED = b"$1\r\n1\r\n$1\r\n0\r\n$0\r\n", b"$1\r\n0\r\n$1\r\n0\r\n$0\r\n"


class Sent:
    """How often something was sent, and what was in the store by the end of the sending."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def sending(self) -> Iterator[None]:
        yield
        self.count += 1


def new(task_id: str) -> NewTask:
    return NewTask(task_id, encoded(task_id, payload=b"a % of it \x00 \r\n"))


def test_the_bytes_are_those_of_the_ordinary_command() -> None:
    one_by_one = OneByOne("q", CODE)
    ordinary = resp.pack(commands.enqueue("q", [new("é")], NOW_MS, CODE).words())
    assert ordinary.count(NOTED) == 1
    assert one_by_one.pack(new("é"), NOW_MS) == ordinary


def test_once_a_minute_it_is_noted_that_the_code_was_asked_for(broker: Any, redis: Any) -> None:
    load(redis, WITH_CODE)
    one_by_one, sent = OneByOne("q", CODE), Sent()
    ages = []
    for number, age in enumerate((0, 59_999, 60_000)):
        broker.clock.now_ms = lambda age=age: NOW_MS + age
        assert broker.enqueue_one("q", one_by_one, new(str(number)), sent.sending()) == []
        ages.append(redis.zscore("nbqueue:{q}:codes", "25ab") - NOW_MS)
    assert ages == [0, 0, 60_000]
    assert sent.count == 3


def test_what_is_written_is_the_same(broker: Any, redis: Any) -> None:
    load(redis, WITH_CODE)
    broker.clock.now_ms = lambda: NOW_MS
    one_by_one = OneByOne("q", CODE)
    assert broker.enqueue_one("q", one_by_one, new("a"), Sent().sending()) == []
    assert broker.enqueue_one("q", one_by_one, new("a"), Sent().sending()) == [0]
    redis.delete("asynq:queues")
    assert dump(redis) == {
        "own:code:25ab": "blob",
        "own:codes": Zset({"25ab": NOW_MS}),
        "pending": ["a"],
        "t:a": task(
            "a", "pending", {"pending_since": NOW_MS * 1_000_000}, payload=b"a % of it \x00 \r\n"
        ),
        **events(("enqueued", "a")),
    }


def test_without_the_code_nothing_is_written(broker: Any, redis: Any) -> None:
    assert broker.enqueue_one("q", OneByOne("q", CODE), new("a"), Sent().sending()) is None
    redis.delete("asynq:queues")
    assert dump(redis) == {}


def test_a_script_that_the_server_lost_is_loaded_again(broker: Any, redis: Any) -> None:
    load(redis, WITH_CODE)
    one_by_one, sent = OneByOne("q", CODE), Sent()

    class Again:
        def __enter__(self) -> None: ...

        def __exit__(self, *error: object) -> None:
            sent.count += 1

    assert broker.enqueue_one("q", one_by_one, new("a"), Again()) == []
    redis.script_flush()
    assert broker.enqueue_one("q", one_by_one, new("b"), Again()) == []
    assert sent.count == 3
    assert redis.lrange("asynq:{q}:pending", 0, -1) == [b"b", b"a"]


def test_a_lost_connection_leaves_it_to_be_repeated(broker: Any, redis: Any) -> None:
    load(redis, WITH_CODE)
    one_by_one = OneByOne("q", CODE)
    broker.enqueue_one("q", one_by_one, new("a"), Sent().sending())
    redis.client_kill_filter(_type="normal", skipme=True)
    assert broker.enqueue_one("q", one_by_one, new("b"), Sent().sending()) is None
    assert broker.enqueue("q", [new("b")], None, CODE, b"blob", repeated=True) == []
    assert redis.lrange("asynq:{q}:pending", 0, -1) == [b"b", b"a"]
