"""Large messages and results are staged; the store holds what it always holds."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, encoded, load, task
from transitions import (
    FENCE,
    LEASE_MS,
    NOW,
    SINCE,
    TOKEN,
    WHO,
    active,
    attempt,
    attempts,
    counted,
    ended,
    events,
    fetched,
    kept,
)

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands import enqueue, lifecycle
from nbqueue.broker.commands.lifecycle import Ended, Fetched
from nbqueue.broker.new_tasks import EnqueueRequest
from nbqueue.broker.reads.task_record import Ending
from nbqueue.broker.staging import read_message_of
from nbqueue.tasks.new_task import NewTask

LARGE = b"p" * 70_000
RESULT = b"r" * 70_000
OWN = {"nbq:lease": f"{TOKEN}|{SINCE}", "nbq:attempt": 1, "nbq:name": "n"}
SINCE_NOW = NOW_MS * 1_000_000


def holding(task_id: str = "a") -> dict[str, Any]:
    return fetched(active(task_id, {"nbq:name": "n"}, payload=LARGE, retention=60))


def finished(task_id: str = "a", **changed: Any) -> Ended:
    msg = encoded(task_id, payload=LARGE, retention=60, completed_at=NOW)
    return kept(task_id, is_large=True, **changed)._replace(msg=msg)


def completed(task_id: str, result: bytes, **more: Any) -> Any:
    return task(
        task_id, "completed", {**OWN, "result": result}, retention=60, completed_at=NOW, **more
    )


def left(*ids: str) -> dict[str, Any]:
    return {
        **counted(len(ids)),
        **events(("completed", " ".join(ids))),
        **attempts(*(attempt(each, "completed") for each in ids)),
    }


COMPLETE: dict[str, Any] = {
    "a large message and a small result": (
        finished(),
        {"completed": Zset(a=NOW + 60), "t:a": completed("a", b"r", payload=LARGE), **left("a")},
    ),
    "both are large, and a partial result lay there": (
        finished(result=RESULT),
        {"completed": Zset(a=NOW + 60), "t:a": completed("a", RESULT, payload=LARGE), **left("a")},
    ),
    "one that is not kept": (ended("a", is_large=True), left("a")),
}


@pytest.mark.parametrize("name", COMPLETE)
def test_complete(broker: Any, redis: Any, name: str) -> None:
    end, then = COMPLETE[name]
    load(redis, holding())
    if end.result == RESULT:
        redis.hset("asynq:{q}:t:a", "result", b"partial")
    assert broker.run(lifecycle.complete("q", [end], NOW_MS, WHO)) == []
    assert dump(redis) == then


def test_a_small_task_with_a_large_result_among_others(broker: Any, redis: Any) -> None:
    given = fetched(
        active("a", {"nbq:name": "n"}, retention=60),
        active("b", retention=60),
        active("c", {"nbq:name": "n"}, payload=LARGE, retention=60),
    )
    load(redis, given)
    ends = [kept("a", result=RESULT, is_large=True), kept("b"), finished("c")]
    assert broker.run(lifecycle.complete("q", ends, NOW_MS, WHO)) == []
    small = {"nbq:lease": f"{TOKEN}|{SINCE}", "nbq:attempt": 1, "result": b"r"}
    assert dump(redis) == {
        "completed": Zset(a=NOW + 60, b=NOW + 60, c=NOW + 60),
        "t:a": completed("a", RESULT),
        "t:b": task("b", "completed", small, retention=60, completed_at=NOW),
        "t:c": completed("c", b"r", payload=LARGE),
        **left("a", "b", "c"),
    }


@pytest.mark.parametrize("result", [b"r", RESULT])
def test_one_that_is_not_held_any_more_changes_nothing(
    broker: Any, redis: Any, result: bytes
) -> None:
    load(redis, holding())
    end = finished(result=result)._replace(fence="Tother")
    assert broker.run(lifecycle.complete("q", [end], NOW_MS, WHO)) == [0]
    assert dump(redis) == holding()


def test_a_repeat_is_refused_and_changes_nothing(broker: Any, redis: Any) -> None:
    load(redis, holding())
    assert broker.run(lifecycle.complete("q", [finished(result=RESULT)], NOW_MS, WHO)) == []
    before = dump(redis)
    assert broker.run(lifecycle.complete("q", [finished(result=b"other")], NOW_MS, WHO)) == [0]
    assert dump(redis) == before


def test_a_server_that_forgot_the_scripts_gets_them_again(broker: Any, redis: Any) -> None:
    load(redis, {**holding(), "t:b": task("b", "active")})
    broker.run(lifecycle.complete("q", [finished("x")], NOW_MS, WHO))
    redis.script_flush()
    redis.delete("asynq:{q}:t:b")
    assert broker.run(lifecycle.complete("q", [finished()], NOW_MS, WHO)) == []
    assert dump(redis)["t:a"] == completed("a", b"r", payload=LARGE)


def test_what_is_wrong_is_found_before_anything_is_written(broker: Any, redis: Any) -> None:
    load(redis, {"pending": "text"})
    with pytest.raises(Exception, match="WRONGTYPE"):
        broker.enqueue(EnqueueRequest("q", [NewTask("a", encoded("a", payload=LARGE))]))
    assert dump(redis, without=("asynq:queues",)) == {"pending": "text"}
    redis.flushall()


def test_enqueue(broker: Any, redis: Any) -> None:
    tasks = [
        NewTask("a", encoded("a", payload=LARGE)),
        NewTask("b", encoded("b")),
        NewTask("c", encoded("c", payload=LARGE)),
    ]
    assert broker.run(enqueue.enqueue("q", tasks, NOW_MS)) == []
    pending = {"pending_since": SINCE_NOW}
    expected = {
        "pending": ["c", "b", "a"],
        "t:a": task("a", "pending", pending, payload=LARGE),
        "t:b": task("b", "pending", pending),
        "t:c": task("c", "pending", pending, payload=LARGE),
        **events(("enqueued", "a b c")),
    }
    assert dump(redis) == expected
    # A repeat finds them; another task under such an id stays out.
    assert broker.run(enqueue.enqueue("q", tasks, NOW_MS, repeated=True)) == []
    assert broker.run(enqueue.enqueue("q", tasks, NOW_MS)) == [0, 1, 2]
    other = NewTask("a", encoded("a", payload=LARGE + b"!"))
    assert broker.run(enqueue.enqueue("q", [other], NOW_MS, repeated=True)) == [0]
    assert dump(redis) == expected


def test_without_its_code_nothing_is_written(broker: Any, redis: Any) -> None:
    large = NewTask("a", encoded("a", payload=LARGE))
    assert broker.run(enqueue.enqueue("q", [large], NOW_MS, bytes(16))) is None
    assert dump(redis) == {}


def test_fetch_gives_the_size_of_what_is_to_be_read(broker: Any, redis: Any) -> None:
    tasks = [NewTask("a", encoded("a", payload=LARGE)), NewTask("b", encoded("b"))]
    broker.run(enqueue.enqueue("q", tasks, NOW_MS))
    size = len(tasks[0].msg)
    assert broker.run(lifecycle.fetch("q", 2, NOW_MS, LEASE_MS, TOKEN)) == [
        Fetched("a", b"", SINCE_NOW, 1, 0, size),
        Fetched("b", tasks[1].msg, SINCE_NOW, 1, 0),
    ]
    assert broker.call(read_message_of("q", "a"), on="q") == [tasks[0].msg]
    since = {"nbq:lease": f"{TOKEN}|{SINCE_NOW}"}
    assert dump(redis)["t:a"] == active("a", since, payload=LARGE)


def test_a_large_task_is_held_by_its_holder_alone(broker: Any, redis: Any) -> None:
    load(redis, holding())
    assert broker.run(lifecycle.extend("q", [("a", FENCE)], LEASE_MS + 9_000)) == []
    assert broker.run(lifecycle.extend("q", [("a", "Tother")], LEASE_MS)) == [0]
    assert redis.zscore("asynq:{q}:lease", "a") == (LEASE_MS + 9_000) / 1000


def test_ends_are_read_without_messages(broker: Broker, redis: Any) -> None:
    load(
        redis,
        {
            "t:a": completed("a", RESULT, payload=LARGE),
            "t:b": task("b", "archived", error_msg="boom"),
            "t:c": task("c", "archived", {"nbq:error": b"\x00e"}, error_msg="boom"),
            "t:d": task("d", "pending", {"result": b"partial"}),
        },
    )
    found = broker.endings("q", ["x", "d", "c", "b", "a"])
    assert found == [
        None,
        Ending("pending", b"partial"),
        Ending("archived", b"", b"\x00e"),
        Ending("archived", error_text="boom"),
        Ending("completed", RESULT),
    ]
    redis.flushall()


def test_the_message_is_byte_for_byte_the_same(broker: Any, redis: Any) -> None:
    load(redis, holding())
    msg = finished().msg + b"\x68\x01"
    assert broker.run(lifecycle.complete("q", [finished()._replace(msg=msg)], NOW_MS, WHO)) == []
    assert redis.hget("asynq:{q}:t:a", "msg") == msg
