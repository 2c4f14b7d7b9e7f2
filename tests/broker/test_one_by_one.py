"""Plain tasks one after the other: the same commands, packed in fewer steps."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from keyspace import NOW_MS, Zset, dump, encoded, load, task
from transitions import events

from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.enqueue import OneByOne
from nbqueue.broker.commands.lifecycle import NewTask
from nbqueue.transport import resp

CODE = b"%\xab"
WITH_CODE = {"own:code:25ab": "blob", "own:codes": Zset({"25ab": 5})}
NOTED, NOT_NOTED = b"$1\r\n1\r\n$1\r\n0\r\n$0\r\n", b"$1\r\n0\r\n$1\r\n0\r\n$0\r\n"


class Sent:
    """How often something was begun to be sent, and was sent."""

    def __init__(self) -> None:
        self.lock = nullcontext()
        self.begun = self.count = 0

    def begin(self) -> None:
        self.begun += 1

    def end(self) -> None:
        assert self.begun == self.count + 1
        self.count += 1


def new(task_id: str) -> NewTask:
    return NewTask(task_id, encoded(task_id, payload=b"a % of it \x00 \r\n"))


def test_the_bytes_are_those_of_the_ordinary_command() -> None:
    one_by_one = OneByOne("q", CODE)
    ordinary = resp.pack(lifecycle.enqueue("q", [new("é")], NOW_MS, CODE).words())
    assert ordinary.count(NOTED) == 1
    assert one_by_one.pack(new("é"), NOW_MS) == ordinary


def test_once_a_minute_it_is_noted_that_the_code_was_asked_for(broker: Any, redis: Any) -> None:
    load(redis, WITH_CODE)
    sent = Sent()
    ages = []
    for number, age in enumerate((0, 59_999, 60_000)):
        broker.clock.now_ms = lambda age=age: NOW_MS + age
        assert broker.enqueue_one("q", CODE, new(str(number)), sent) == []
        ages.append(redis.zscore("nbqueue:{q}:codes", "25ab") - NOW_MS)
    assert ages == [0, 0, 60_000]
    assert sent.count == 3


def test_what_is_written_is_the_same(broker: Any, redis: Any) -> None:
    load(redis, WITH_CODE)
    broker.clock.now_ms = lambda: NOW_MS
    assert broker.enqueue_one("q", CODE, new("a"), Sent()) == []
    assert broker.enqueue_one("q", CODE, new("a"), Sent()) == [0]
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
    assert broker.enqueue_one("q", CODE, new("a"), Sent()) is None
    redis.delete("asynq:queues")
    assert dump(redis) == {}


def test_a_script_that_the_server_lost_is_loaded_again(broker: Any, redis: Any) -> None:
    load(redis, WITH_CODE)
    sent = Sent()
    assert broker.enqueue_one("q", CODE, new("a"), sent) == []
    redis.script_flush()
    assert broker.enqueue_one("q", CODE, new("b"), sent) == []
    assert sent.count == 3
    assert redis.lrange("asynq:{q}:pending", 0, -1) == [b"b", b"a"]


def test_a_lost_connection_leaves_it_to_be_repeated(broker: Any, redis: Any) -> None:
    load(redis, WITH_CODE)
    broker.enqueue_one("q", CODE, new("a"), Sent())
    redis.client_kill_filter(_type="normal", skipme=True)
    assert broker.enqueue_one("q", CODE, new("b"), Sent()) is None
    assert broker.enqueue("q", [new("b")], None, CODE, b"blob", repeated=True) == []
    assert redis.lrange("asynq:{q}:pending", 0, -1) == [b"b", b"a"]
