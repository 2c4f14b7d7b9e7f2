"""Plain calls one after the other: the ordinary command, packed in fewer steps."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, encoded, load, task
from transitions import events

from nbqueue.broker.commands import enqueue
from nbqueue.broker.commands.enqueue import OneByOne, UniqueLock
from nbqueue.broker.commands.limits import limited
from nbqueue.broker.new_tasks import ENQUEUED, EnqueueRequest
from nbqueue.errors import StoreError
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport import resp

CODE = b"%\xab"
WITH_CODE = {"own:code:25ab": "blob", "own:codes": Zset({"25ab": 5})}
NOTED, NOT_NOTED = b"$1\r\n1\r\n$1\r\n0\r\n$0\r\n", b"$1\r\n0\r\n$1\r\n0\r\n$0\r\n"


def new(task_id: str) -> NewTask:
    return NewTask(task_id, encoded(task_id, payload=b"a % of it \x00 \r\n"))


def request(task_id: str, blob: bytes | None = None) -> EnqueueRequest:
    return EnqueueRequest("q", (new(task_id),), CODE, blob)


@pytest.fixture
def packed(broker: Any, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The packed commands that are sent."""
    found: list[bytes] = []
    connection = broker._router.connection("q")
    run_packed = connection.run_packed

    def noting(script: Any, data: bytes, then: bytes = b"") -> Any:
        found.append(data)
        return run_packed(script, data, then)

    monkeypatch.setattr(connection, "run_packed", noting)
    return found


def test_the_bytes_are_those_of_the_ordinary_command() -> None:
    one_by_one = OneByOne("q", CODE)
    ordinary = resp.pack(enqueue.enqueue("q", [new("é")], NOW_MS, CODE).words())
    assert ordinary.count(NOTED) == 1
    assert one_by_one.pack(new("é"), NOW_MS) == ordinary


def test_once_a_minute_it_is_noted_that_the_code_was_asked_for(
    broker: Any, redis: Any, packed: list[bytes]
) -> None:
    load(redis, WITH_CODE)
    ages = []
    for number, age in enumerate((0, 59_999, 60_000)):
        broker.clock.now_ms = lambda age=age: NOW_MS + age
        assert broker.enqueue(request(str(number))) == ENQUEUED
        ages.append(redis.zscore("nbqueue:{q}:codes", "25ab") - NOW_MS)
    assert ages == [0, 0, 60_000]
    assert [NOTED in data for data in packed] == [True, False, True]


def test_what_is_written_is_the_same(broker: Any, redis: Any, packed: list[bytes]) -> None:
    load(redis, WITH_CODE)
    broker.clock.now_ms = lambda: NOW_MS
    assert broker.enqueue(request("a")) == ENQUEUED
    assert broker.enqueue(request("a")).conflicts == [0]
    assert len(packed) == 2
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
    with pytest.raises(StoreError, match="lacks the code"):
        broker.enqueue(request("a"))
    redis.delete("asynq:queues")
    assert dump(redis) == {}


def test_code_that_the_store_lacks_goes_along(broker: Any, redis: Any, packed: list[bytes]) -> None:
    assert broker.enqueue(request("a", b"blob")) == ENQUEUED
    assert broker.enqueue(request("b", b"blob")) == ENQUEUED
    assert len(packed) == 2
    assert redis.get("nbqueue:{q}:code:25ab") == b"blob"
    assert redis.lrange("asynq:{q}:pending", 0, -1) == [b"b", b"a"]


def test_a_script_that_the_server_lost_is_loaded_again(broker: Any, redis: Any) -> None:
    load(redis, WITH_CODE)
    assert broker.enqueue(request("a")) == ENQUEUED
    redis.script_flush()
    assert broker.enqueue(request("b")) == ENQUEUED
    assert redis.lrange("asynq:{q}:pending", 0, -1) == [b"b", b"a"]


def test_after_a_lost_connection_it_is_sent_again(broker: Any, redis: Any) -> None:
    load(redis, WITH_CODE)
    broker.enqueue(request("a"))
    redis.client_kill_filter(_type="normal", skipme=True)
    assert broker.enqueue(request("b")) == ENQUEUED
    assert redis.lrange("asynq:{q}:pending", 0, -1) == [b"b", b"a"]


@pytest.mark.parametrize("what", ["due", "grouped", "unique", "limited"])
def test_a_call_with_options_goes_the_ordinary_way(
    broker: Any, redis: Any, packed: list[bytes], what: str
) -> None:
    load(redis, WITH_CODE)
    options: dict[str, dict[str, Any]] = {
        "due": {"due_ms": broker.clock.now_ms() + 60_000},
        "grouped": {"group": "g"},
        "unique": {"lock": UniqueLock("asynq:{q}:unique:t:", 1_000)},
        "limited": {"tasks": (limited(new("a"), "l"),), "limits": {"l": "1"}},
    }
    assert broker.enqueue(request("a")._replace(**options[what])) == ENQUEUED
    assert packed == []
