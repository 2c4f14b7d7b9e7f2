"""Messages: named tasks with bytes, for any worker that speaks Asynq, and from any client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from asynq_peer import AsynqPeer
from thread_worker import GoWorker, ThreadWorker

from nbqueue.client import outstanding
from nbqueue.client.client import Client
from nbqueue.errors import TaskIdConflict, TaskNotFound, UsageError
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import TaskMessage

KEYS = queue_keys("default")


@pytest.fixture
def go(redis: Any) -> AsynqPeer:
    return AsynqPeer(redis, "default")


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    # A program in Go announces nothing, so its ends are found by looking.
    monkeypatch.setattr(outstanding, "OWN_INTERVAL", 0.05)


def stored(redis: Any, task_id: str) -> TaskMessage:
    message: TaskMessage = TaskMessage.FromString(redis.hget(KEYS.task(task_id), "msg"))
    return message


def wait_until(fact: Callable[[], Any]) -> Any:
    limit = time.monotonic() + 10
    while not (found := fact()):
        assert time.monotonic() < limit, "waited in vain"
        threading.Event().wait(0.005)
    return found


def test_a_message_lies_there_as_a_program_in_go_would_have_put_it(
    client: Client, redis: Any
) -> None:
    future = client.enqueue("email:deliver", {"user": 1, "ü": [None, "x"]})
    message = stored(redis, future.id)
    assert message == TaskMessage(
        type="email:deliver",
        payload='{"user":1,"ü":[null,"x"]}'.encode(),
        id=future.id,
        queue="default",
        retry=25,
        timeout=1800,
    )
    fields = redis.hgetall(KEYS.task(future.id))
    assert fields.keys() == {b"msg", b"state", b"pending_since"}
    assert redis.lrange(KEYS.pending, 0, -1) == [future.id.encode()]
    assert (future.type, future.queue, future.state) == ("email:deliver", "default", "pending")


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        (None, b""),
        (b"\x00\xff\n", b"\x00\xff\n"),
        (bytearray(b"ab"), b"ab"),
        ("tëxt", "tëxt".encode()),
        (7, b"7"),
        ([1, {"a": "b c"}], b'[1,{"a":"b c"}]'),
        (False, b"false"),
    ],
)
def test_a_payload_is_bytes_text_or_json(
    client: Client, redis: Any, payload: Any, sent: bytes
) -> None:
    assert stored(redis, client.enqueue("t", payload).id).payload == sent


@pytest.mark.parametrize("payload", [object(), {1, 2}, float("nan"), "\ud800", b"\x00nbq\x01"])
def test_a_payload_that_cannot_be_sent_is_refused(client: Client, redis: Any, payload: Any) -> None:
    with pytest.raises(UsageError, match="payload"):
        client.enqueue("t", payload)
    assert redis.keys("asynq:*") == []


@pytest.mark.parametrize("type", ["", "  ", None, 3, "\ud800"])
def test_a_type_must_be_text(client: Client, type: Any) -> None:
    with pytest.raises(UsageError, match="type="):
        client.enqueue(type)


def test_what_only_calls_know_is_refused(client: Client) -> None:
    with pytest.raises(UsageError, match="on_lost= is for calls"):
        client.enqueue("t", on_lost="fail")


def test_options_are_those_of_calls(client: Client, redis: Any) -> None:
    deadline = datetime(2040, 1, 1, tzinfo=timezone.utc)
    future = client.options(retry=3, name="n").enqueue(
        "t", retry=0, deadline=deadline, retention="2h", headers={"a": "b"}, task_id="mine"
    )
    message = stored(redis, "mine")
    assert (message.retry, message.timeout, message.retention) == (0, 0, 7200)
    assert message.deadline == int(deadline.timestamp())
    assert dict(message.headers) == {"a": "b"}
    assert client.get("n").id == future.id == "mine"
    with pytest.raises(TaskIdConflict, match="'mine'"):
        client.enqueue("t", task_id="mine")


def test_a_delayed_message_is_scheduled_in_whole_seconds_rounded_up(
    client: Client, redis: Any
) -> None:
    at = datetime.now(timezone.utc) + timedelta(seconds=100)
    future = client.enqueue("t", at=at)
    assert future.state == "scheduled"
    [(task_id, score)] = redis.zrange(KEYS.scheduled, 0, -1, withscores=True)
    assert task_id.decode() == future.id
    assert score == int(score) >= at.timestamp()
    assert float(redis.hget(KEYS.task(future.id), "nbq:due")) == round(at.timestamp() * 1000)


def test_a_worker_in_go_takes_it_and_what_it_wrote_is_the_result(
    client: Client, redis: Any, go: AsynqPeer
) -> None:
    future = client.enqueue("t", {"n": 1}, retention="1h")
    now = int(time.time())
    msg = go.dequeue(now)
    assert msg is not None
    assert TaskMessage.FromString(msg).payload == b'{"n":1}'
    redis.hset(KEYS.task(future.id), "result", b'{"sum": 3}')
    go.complete(future.id, msg, now + 3600)
    assert future.result(10) == {"sum": 3}


@pytest.mark.parametrize(
    ("written", "result"),
    [(b"[1]", [1]), (b"null", None), (b"\xff", b"\xff"), (b"plain", b"plain"), (None, None)],
)
def test_a_result_is_json_if_it_reads_as_such(
    client: Client, redis: Any, written: bytes | None, result: Any
) -> None:
    future = client.enqueue("t", retention="1h")
    GoWorker(redis).complete(future.id, written)
    assert future.result(10) == result
    assert client.get(future.id).result(0) == result


def test_a_message_that_go_deletes_when_it_is_done_ends_with_nothing(
    client: Client, go: AsynqPeer
) -> None:
    future = client.enqueue("t")
    go.dequeue(int(time.time()))
    go.done(future.id)
    assert future.result(10) is None
    assert future.state == "completed"


def test_a_message_that_is_kept_for_no_time_still_brings_its_result(
    client: Client, store_url: str
) -> None:
    worker = ThreadWorker(store_url)
    futures = [client.enqueue("t"), client.enqueue("t"), client.enqueue("t")]
    held = worker.fetch(3)
    worker.complete([(held[0], b'{"a": 1}'), (held[1], b""), (held[2], b"\x80")])
    worker.close()
    assert [f.result(10) for f in futures] == [{"a": 1}, None, b"\x80"]
    assert {f.state for f in futures} == {"completed"}


def test_a_call_that_is_gone_is_still_not_found(client: Client, redis: Any) -> None:
    future = client.submit(sum, [1])
    GoWorker(redis).done(future.id)
    with pytest.raises(TaskNotFound):
        future.result(10)
