"""nbqueue writes, reads and runs tasks in Asynq's format, to the byte.

Its additions, `nbq:*` fields and `nbqueue:*` keys (docs/schemas.md), are left out.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import Any

import golden
import pytest
from golden import NOW, NOW_MS, For, Scores, enqueue
from protobuf import decode_task, varint
from transitions import TOKEN, WHO, ended, failure

import nbqueue
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands import lifecycle, maintenance
from nbqueue.client.client import Client
from nbqueue.client.completion import awaited_tasks
from nbqueue.clock import from_ms
from nbqueue.errors import TaskFailed, TaskTimeout
from nbqueue.wire.messages import with_completed_at

FIELDS = {
    "type": "email:deliver",
    "payload": b'{"user":1}',
    "id": "gold-1",
    "queue": "q",
    "retry": 3,
    "timeout": 60,
    "retention": 600,
}


@pytest.fixture
def q(client: Client, clock: Any) -> Client:
    """A client whose time stands still."""
    client._session.clock = client._session.broker.clock = clock
    return client


@pytest.fixture
def fetched(broker: Any, redis: Any) -> lifecycle.Fetched:
    """The pending task of Go in the hands of nbqueue."""
    golden.write(redis, golden.PENDING)
    [found] = broker.run(lifecycle.fetch("q", 9, NOW_MS, NOW_MS + 30_000, TOKEN))
    assert found.msg == golden.MSG
    return found  # type: ignore[no-any-return]


# --- The golden data matches the protocol -------------------------------------------------------


@pytest.mark.parametrize(
    ("msg", "more"),
    [
        (golden.MSG, {}),
        (golden.RETRIED_MSG, {"retried": 1, "error_msg": "boom", "last_failed_at": NOW}),
        (golden.ARCHIVED_MSG, {"error_msg": "boom", "last_failed_at": NOW}),
        (golden.COMPLETED_MSG, {"completed_at": NOW}),
        (golden.UNIQUE_MSG, {"unique_key": golden.LOCK.decode()}),
        (golden.GROUP_MSG, {"group_key": "news"}),
        (golden.HEADERS_MSG, {"headers": {"trace": "x-1"}}),
    ],
)
def test_the_golden_messages_say_what_they_are_meant_to(msg: bytes, more: dict[str, Any]) -> None:
    assert decode_task(msg) == {**FIELDS, **more}


def test_the_golden_lock_is_the_digest_of_the_payload() -> None:
    assert golden.LOCK.endswith(hashlib.md5(b'{"user":1}').hexdigest().encode())


# --- It writes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "content"), golden.ENQUEUED)
def test_a_new_task_lies_there_as_in_go(q: Client, redis: Any, options: Any, content: Any) -> None:
    enqueue(q, **options)
    assert golden.read(redis) == content


def test_a_fetched_task_lies_there_as_in_go(fetched: Any, redis: Any) -> None:
    assert golden.read(redis) == golden.ACTIVE


def test_a_retried_task_lies_there_as_in_go(fetched: Any, broker: Any, redis: Any) -> None:
    msg = failure_commands.failed_message(fetched.msg, "boom", NOW_MS, counts=True)
    due_ms = (NOW + 60) * 1000
    assert broker.run(
        failure_commands.retry("q", failure("gold-1"), msg, due_ms, NOW_MS, WHO, error=b"e")
    )
    assert golden.read(redis) == golden.RETRY


def test_an_archived_task_lies_there_as_in_go(fetched: Any, broker: Any, redis: Any) -> None:
    msg = failure_commands.failed_message(fetched.msg, "boom", NOW_MS, counts=False)
    assert broker.run(
        failure_commands.archive("q", failure("gold-1"), msg, NOW_MS, WHO, error=b"e")
    )
    assert golden.read(redis) == golden.ARCHIVED


def test_a_completed_task_lies_there_as_in_go(fetched: Any, broker: Any, redis: Any) -> None:
    msg = with_completed_at(fetched.msg, NOW)
    done = ended("gold-1", keep_until=NOW + 600, msg=msg, result=b'{"sent":true}')
    assert broker.run(lifecycle.complete("q", [done], NOW_MS, WHO)) == []
    assert golden.read(redis) == golden.COMPLETED


def test_of_a_task_that_is_not_kept_there_is_left_what_go_leaves(
    fetched: Any, broker: Any, redis: Any
) -> None:
    assert broker.run(lifecycle.complete("q", [ended("gold-1")], NOW_MS, WHO)) == []
    assert golden.read(redis) == golden.DONE


def test_a_requeued_task_lies_there_as_in_go(fetched: Any, broker: Any, redis: Any) -> None:
    assert broker.run(failure_commands.requeue("q", failure("gold-1"), "interrupted", NOW_MS, WHO))
    # Go leaves out the time of waiting after a requeue; here it counts from the enqueueing.
    assert golden.read(redis) == golden.PENDING


def test_a_task_that_is_due_lies_there_as_in_go(broker: Any, redis: Any) -> None:
    content = {**golden.SCHEDULED, b"asynq:{q}:scheduled": Scores({b"gold-1": NOW - 1})}
    golden.write(redis, content)
    assert broker.run(maintenance.forward("q", NOW_MS)).moved == 1
    assert golden.read(redis) == golden.PENDING


def test_a_task_of_a_group_that_is_due_lies_there_as_in_go(broker: Any, redis: Any) -> None:
    fields = {b"msg": golden.GROUP_MSG, b"state": b"scheduled", b"group": b"news"}
    due = Scores({b"gold-1": NOW - 1})
    golden.write(redis, {b"asynq:queues": {b"q"}, golden.TASK: fields, b"asynq:{q}:scheduled": due})
    assert broker.run(maintenance.forward("q", NOW_MS)).moved == 1
    assert golden.read(redis) == golden.AGGREGATING


def test_the_end_of_a_unique_task_gives_its_lock_up_as_in_go(broker: Any, redis: Any) -> None:
    golden.write(redis, golden.PENDING_UNIQUE)
    broker.run(lifecycle.fetch("q", 9, NOW_MS, NOW_MS + 30_000, TOKEN))
    assert golden.read(redis)[golden.LOCK] == For(b"gold-1", 3600)
    broker.run(lifecycle.complete("q", [ended("gold-1")], NOW_MS, WHO))
    assert golden.read(redis) == golden.DONE


# --- It reads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", golden.STATES)
def test_a_client_finds_a_task_of_go_in_every_state(q: Client, redis: Any, state: str) -> None:
    golden.write(redis, golden.STATES[state])
    future = q.get("gold-1")
    assert (future.state, future.type, future.queue) == (state, "email:deliver", "q")
    begun = state in ("active", "retry", "archived", "completed")
    assert (future.attempt, future.done()) == (begun, state in ("completed", "archived"))
    record = q._session.broker.find("gold-1")
    assert record is not None
    assert record.message.payload == b'{"user":1}'
    assert record.pending_since_ns == (NOW_MS * 1_000_000 if state == "pending" else None)
    assert q._session.broker.states("q", ["gold-1"]) == [state]
    assert q._session.broker.queues() == ["q"]
    before = golden.read(redis)
    assert before == golden.STATES[state], "reading changes nothing"


def test_the_end_of_a_task_of_go_is_its_result_or_the_text_of_its_error(
    q: Client, redis: Any
) -> None:
    golden.write(redis, golden.COMPLETED)
    assert q.get("gold-1").result(0) == q.get("gold-1").reported() == {"sent": True}
    redis.flushall()
    golden.write(redis, golden.ARCHIVED)
    with pytest.raises(TaskFailed, match="boom"):
        q.get("gold-1").result(0)


def test_a_task_of_go_is_the_same_unique_task(q: Client, redis: Any) -> None:
    golden.write(redis, golden.PENDING_UNIQUE)
    with pytest.raises(nbqueue.TaskNotUnique) as caught:
        enqueue(q, task_id="other", unique="1h")
    assert caught.value.task_id == "gold-1"
    assert golden.read(redis) == golden.PENDING_UNIQUE
    with pytest.raises(nbqueue.TaskIdConflict):
        enqueue(q)


@pytest.mark.parametrize("state", ["pending", "scheduled", "retry"])
def test_a_task_of_go_is_cancelled(q: Client, redis: Any, state: str) -> None:
    golden.write(redis, golden.STATES[state])
    assert q.get("gold-1").cancel() is True
    found = golden.read(redis)
    assert found[b"asynq:{q}:archived"] == Scores({b"gold-1": NOW})
    assert found[golden.TASK][b"state"] == b"archived"
    assert f"asynq:{{q}}:{state}".encode() not in found


# --- It finishes --------------------------------------------------------------------------------

PAST = 1_700_000_000
FINISHED: dict[str, tuple[golden.Content, bytes]] = {
    "pending": (golden.PENDING, golden.MSG),
    "pending with headers": (golden.PENDING_WITH_HEADERS, golden.HEADERS_MSG),
    "active, and its lease ran out": (
        {**golden.ACTIVE, b"asynq:{q}:lease": Scores({b"gold-1": PAST})},
        golden.MSG,
    ),
    "scheduled, and due": (
        {**golden.SCHEDULED, b"asynq:{q}:scheduled": Scores({b"gold-1": PAST})},
        golden.MSG,
    ),
    "to be retried, and due": (
        {**golden.RETRY, b"asynq:{q}:retry": Scores({b"gold-1": PAST})},
        golden.RETRIED_MSG,
    ),
}


@pytest.fixture
def finishing(store_url: str, tmp_path: Any) -> Iterator[nbqueue.Worker]:
    worker = nbqueue.Worker(store_url, queues=["q"], concurrency=1, log=tmp_path / "log")
    worker.handle("email:", lambda task: {"sent": task.json()["user"] == 1})
    worker.handle("late:", lambda task: time.sleep(60))
    yield worker
    worker.stop()


@pytest.mark.parametrize("name", FINISHED)
def test_a_worker_runs_a_task_of_go_to_the_end_that_go_would_write(
    client: Client,
    redis: Any,
    finishing: nbqueue.Worker,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(awaited_tasks, "OTHER_INTERVAL", 0.05)
    content, msg = FINISHED[name]
    golden.write(redis, content)
    future = client.get("gold-1")
    with finishing:
        assert future.result(40) == {"sent": True}
    found = golden.read(redis)
    [(_, until)] = found[b"asynq:{q}:completed"].items()
    completed_at = int(until) - 600
    assert abs(completed_at - redis.time()[0]) < 60
    day = from_ms(completed_at * 1000).date().isoformat().encode()
    counters = {key: value for key, value in content.items() if b"failed" in key}
    before = content.get(b"asynq:{q}:processed", b"0")
    kept = {key: value for key, value in content.items() if b"processed:" in key}
    assert found == {
        b"asynq:queues": {b"q"},
        b"asynq:{q}:completed": Scores({b"gold-1": until}),
        golden.TASK: {
            b"msg": msg + b"\x68" + varint(completed_at),
            b"state": b"completed",
            b"result": b'{"sent":true}',
        },
        **counters,
        **kept,
        b"asynq:{q}:processed": b"%d" % (int(before) + 1),
        b"asynq:{q}:processed:" + day: found[b"asynq:{q}:processed:" + day],
    }
    counted = found[b"asynq:{q}:processed:" + day]
    assert counted.value == b"1"
    assert abs(counted.at - completed_at - 90 * 86_400) < 60


def test_a_worker_fails_a_task_of_go_as_go_would(
    client: Client, redis: Any, finishing: nbqueue.Worker
) -> None:
    """Type "late:deliver" with no retries and a second to run: archived, with Asynq's error."""
    msg = bytes.fromhex("0a 05 6c6174653a1a 06 676f6c642d3122 01 7140 0160 d804")
    golden.write(redis, golden.pending_of(msg))
    future = client.get("gold-1")
    with finishing, pytest.raises(TaskTimeout):
        future.result(40)
    found = golden.read(redis)
    [(_, archived_at)] = found[b"asynq:{q}:archived"].items()
    text = b"timed out after 1s"
    assert found[golden.TASK] == {
        b"msg": msg[:-5]
        + b"\x3a" + varint(len(text)) + text
        + msg[-5:-3]
        + b"\x58" + varint(int(archived_at))
        + msg[-3:],
        b"state": b"archived",
    }  # fmt: skip
    assert (found[b"asynq:{q}:processed"], found[b"asynq:{q}:failed"]) == (b"1", b"1")
    assert not {b"asynq:{q}:active", b"asynq:{q}:lease", b"asynq:{q}:pending"} & found.keys()
