"""Messages: named tasks with bytes, for any worker that speaks Asynq, and from any client."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from asynq_peer import AsynqPeer
from thread_worker import GoWorker, ThreadWorker

from nbqueue.client.client import Client
from nbqueue.client.completion import awaited_tasks
from nbqueue.clock import to_ms_up
from nbqueue.errors import (
    TaskIdConflict,
    TaskNotFound,
    TaskNotUnique,
    UsageError,
    ValueTooLarge,
)
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import TaskMessage

KEYS = queue_keys("default")


@pytest.fixture
def go(redis: Any) -> AsynqPeer:
    return AsynqPeer(redis, "default")


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    # A program in Go announces nothing, so its ends are found by looking.
    monkeypatch.setattr(awaited_tasks, "OWN_INTERVAL", 0.05)


def stored(redis: Any, task_id: str) -> TaskMessage:
    message: TaskMessage = TaskMessage.FromString(redis.hget(KEYS.task(task_id), "msg"))
    return message


def wait_until(fact: Callable[[], Any]) -> Any:
    limit = time.monotonic() + 30
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
    assert float(redis.hget(KEYS.task(future.id), "nbq:due")) == to_ms_up(at)


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


class TestUnique:
    def test_a_second_one_is_refused_and_says_who_was_first(
        self, client: Client, redis: Any
    ) -> None:
        first = client.enqueue("t", {"a": 1}, unique="1h")
        with pytest.raises(TaskNotUnique, match=first.id) as caught:
            client.enqueue("t", {"a": 1}, unique="1h")
        assert (caught.value.task_id, caught.value.state) == (first.id, "pending")
        client.enqueue("t", {"a": 2}, unique="1h")
        client.enqueue("t", {"a": 1}, unique="1h", queue="other")
        client.enqueue("t", {"a": 1})
        digest = hashlib.md5(b'{"a":1}').hexdigest()
        assert redis.get(f"asynq:{{default}}:unique:t:{digest}") == first.id.encode()
        assert stored(redis, first.id).unique_key.endswith(digest)
        assert not list(client._session.listener.outstanding())[4:]

    def test_no_payload_and_an_empty_one_have_the_locks_that_go_gives_them(
        self, client: Client, redis: Any
    ) -> None:
        client.enqueue("t", unique=60)
        client.enqueue("t", b"", unique=60)
        found = {key.decode() for key in redis.keys("*unique*")}
        assert found == {KEYS.unique("t", None), KEYS.unique("t", b"")}

    def test_a_task_in_go_keeps_ours_away_and_ours_keeps_go_away(
        self, client: Client, redis: Any, go: AsynqPeer
    ) -> None:
        lock = KEYS.unique("t", b"p")
        message = TaskMessage(type="t", payload=b"p", id="g", queue="default", unique_key=lock)
        name = lock.removeprefix(KEYS.prefix)
        assert go.enqueue_unique("g", message.SerializeToString(), 1, name, 60) == 1
        with pytest.raises(TaskNotUnique, match="'g'"):
            client.enqueue("t", b"p", unique=60)
        go.dequeue(int(time.time()))
        go.done("g")
        ours = client.enqueue("t", b"p", unique=60)  # the lock was left behind, and is taken over
        assert go.enqueue_unique("h", message.SerializeToString(), 1, name, 60) == -1
        assert ours.state == "pending"

    def test_existing_gives_the_future_of_the_other(self, client: Client, store_url: str) -> None:
        worker = ThreadWorker(store_url)
        unique = client.options(unique="1h", on_conflict="existing")
        first, second = unique.submit(sum, [1, 2]), unique.submit(sum, [1, 2])
        assert second.id == first.id
        assert unique.submit(sum, [1, 3]).id != first.id
        worker.work()
        assert second.result(10) == first.result(10) == 3
        assert unique.submit(sum, [1, 2]).id != first.id  # that one is over
        worker.close()

    def test_replace_takes_the_place_of_the_other(self, client: Client) -> None:
        unique = client.options(unique="1h", on_conflict="replace")
        first, second = unique.submit(sum, [1, 2]), unique.submit(sum, [1, 2])
        with pytest.raises(TaskNotFound):
            first.result(10)
        assert first.state == "deleted"
        assert client.get(second.id).state == "pending"

    def test_a_replaced_message_was_not_done(self, client: Client) -> None:
        unique = client.options(unique="1h", on_conflict="replace")
        first = unique.enqueue("t", 1)
        unique.enqueue("t", 1)
        with pytest.raises(TaskNotFound):
            first.result(10)

    def test_one_that_runs_is_not_replaced(self, client: Client, store_url: str) -> None:
        worker = ThreadWorker(store_url)
        unique = client.options(unique="1h", on_conflict="replace")
        first = unique.submit(sum, [1, 2])
        worker.fetch()
        with pytest.raises(TaskNotUnique, match="runs") as caught:
            unique.submit(sum, [1, 2])
        assert caught.value.task_id == first.id
        worker.close()

    def test_a_cancelled_task_lets_the_next_one_in(self, client: Client) -> None:
        unique = client.options(unique="1h")
        assert unique.submit(sum, [1, 2]).cancel()
        assert unique.submit(sum, [1, 2]).state == "pending"

    def test_an_id_of_ones_own_conflicts_as_ever_and_leaves_no_lock(
        self, client: Client, redis: Any
    ) -> None:
        client.enqueue("t", 1, task_id="mine")
        with pytest.raises(TaskIdConflict, match="'mine'"):
            client.enqueue("t", 2, task_id="mine", unique=60)
        assert redis.keys("*unique*") == []
        named = client.enqueue("t", 2, task_id="other", unique=60)
        assert named.id == "other"
        with pytest.raises(TaskNotUnique, match="'other'"):
            client.enqueue("t", 2, task_id="third", unique=60)

    @pytest.mark.parametrize(
        "options", [{"unique": 0.5}, {"unique": "soon"}, {"on_conflict": "later"}]
    )
    def test_wrong_options_are_refused(self, client: Client, options: Any) -> None:
        with pytest.raises(UsageError):
            client.enqueue("t", **options)

    def test_a_map_is_never_unique(self, client: Client) -> None:
        with pytest.raises(UsageError, match="unique="):
            client.options(unique=60).map(sum, [[1]])


def test_what_one_value_of_redis_cannot_hold_is_refused_with_its_size(
    client: Client, redis: Any
) -> None:
    before = redis.config_get("proto-max-bulk-len")["proto-max-bulk-len"]
    redis.config_set("proto-max-bulk-len", 5_000_000)
    try:
        payload = b"x" * 6_000_000
        for enqueue in (
            lambda: client.enqueue("import", payload),
            lambda: client.schedule(len, "@daily", args=(payload,)),
            lambda: client.schedule_message("import", payload, "@daily"),
        ):
            with pytest.raises(ValueTooLarge, match=r"6\.0 MB is more than .* 5\.0 MB"):
                enqueue()
        assert client.enqueue("import", b"x" * 4_000_000).id
        assert client.submit(len, payload).id  # in pieces
    finally:
        redis.config_set("proto-max-bulk-len", before)
