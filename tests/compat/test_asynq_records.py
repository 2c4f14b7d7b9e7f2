"""Tasks as Go programs write them, and as nbqueue writes them for Go.

All are compared byte for byte. The keys are written by hand from the protocol; no code of nbqueue
makes or decodes them.
"""

from __future__ import annotations

from typing import Any

import pytest
from asynq_peer import AsynqPeer
from keyspace import NOW_MS, Zset, check_invariants, dump
from protobuf import bytes_field, decode_task, number_field
from transitions import FENCE, LEASE_MS, NOW, TOKEN, WHO, ended, failure

from nbqueue.broker.commands import enqueue, lifecycle, maintenance
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.tasks.new_task import NewTask
from nbqueue.wire.messages import TaskMessage, with_completed_at

# What Enqueue writes: type "email", payload {"to":1}, id, queue "q", retry 25, timeout 1800.
HEAD = b'\x0a\x05email\x12\x08{"to":1}\x1a\x01a\x22\x01q\x28\x19'
TAIL = b"\x40\x88\x0e"
MSG = HEAD + TAIL
FAILED_MSG = HEAD + b"\x30\x01\x3a\x04boom" + TAIL + b"\x58\x80\xe2\xcf\xaa\x06"
KEPT_MSG = MSG + b"\x60\x3c"
UNIQUE = b"asynq:{q}:unique:email:6f1f0fd7f5a0b2dca7a6a9c4ed5d7c19"
UNIQUE_MSG = MSG + b"\x52" + bytes((len(UNIQUE),)) + UNIQUE
HEADERS_MSG = MSG + b"\x7a\x0a\x0a\x05trace\x12\x01x"
FIELDS = {
    "type": "email",
    "payload": b'{"to":1}',
    "id": "a",
    "queue": "q",
    "retry": 25,
    "timeout": 1800,
}
T = "asynq:{q}:t:a"


@pytest.fixture
def peer(redis: Any) -> AsynqPeer:
    redis.sadd("asynq:queues", "q")
    return AsynqPeer(redis)


def write(redis: Any, msg: bytes, state: str, **more: Any) -> None:
    """The hash of a task and its place, as Go writes them."""
    redis.hset(T, mapping={"msg": msg, "state": state, **more})
    if state == "pending":
        redis.lpush("asynq:{q}:pending", "a")
    elif state == "active":
        redis.lpush("asynq:{q}:active", "a")
        redis.zadd("asynq:{q}:lease", {"a": NOW + 30})
    else:
        redis.zadd(f"asynq:{{q}}:{state}", {"a": NOW})


def fetch(broker: Any, now_ms: int = NOW_MS) -> lifecycle.Fetched:
    [found] = broker.run(lifecycle.fetch("q", 9, now_ms, now_ms + 30_000, TOKEN))
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("msg", "fields"),
    [
        (MSG, {}),
        (FAILED_MSG, {"retried": 1, "error_msg": "boom", "last_failed_at": 1_700_000_000}),
        (KEPT_MSG, {"retention": 60}),
        (UNIQUE_MSG, {"unique_key": UNIQUE.decode()}),
        (HEADERS_MSG, {"headers": {"trace": "x"}}),
    ],
)
def test_a_message_of_go_is_read_and_written_again_to_the_byte(msg: bytes, fields: Any) -> None:
    message = TaskMessage.FromString(msg)
    assert decode_task(msg) == {**FIELDS, **fields}
    assert message.SerializeToString(deterministic=True) == msg
    for name, value in {**FIELDS, **fields}.items():
        assert getattr(message, name) == value


def test_a_pending_task_of_go_is_fetched_and_done(broker: Any, redis: Any, peer: AsynqPeer) -> None:
    write(redis, MSG, "pending", pending_since=NOW_MS * 1_000_000)
    found = fetch(broker)
    assert found == lifecycle.Fetched("a", MSG, NOW_MS * 1_000_000, 1, 0)
    done = ended("a", msg=b"", type="email")
    assert broker.run(lifecycle.complete("q", [done], NOW_MS, WHO)) == []
    left = dump(redis, without=("own:events", "own:attempts", "asynq:queues"))
    assert {k: v for k, v in left.items() if not k.startswith("processed")} == {}


def test_a_pending_task_that_an_inspector_put_there_has_no_time_of_waiting(
    broker: Any, redis: Any, peer: AsynqPeer
) -> None:
    write(redis, FAILED_MSG, "archived")
    assert peer.run_one("a") == 1
    assert fetch(broker).pending_since_ns is None
    again = failure("a", waited_ms=None)
    assert broker.run(failure_commands.requeue("q", again, "interrupted", NOW_MS, WHO)) is True
    content = dump(redis)
    check_invariants(content)
    assert "pending_since" not in content["t:a"]


def test_a_unique_task_of_go_is_done_and_its_lock_given_up(
    broker: Any, redis: Any, peer: AsynqPeer
) -> None:
    now_ns = NOW_MS * 1_000_000
    lock = UNIQUE.decode().removeprefix("asynq:{q}:")
    assert peer.enqueue_unique("a", UNIQUE_MSG, now_ns, lock, 3600) == 1
    assert peer.enqueue_unique("b", UNIQUE_MSG, now_ns, lock, 3600) == -1
    fetch(broker)
    assert broker.run(lifecycle.complete("q", [ended("a")], NOW_MS, WHO)) == []
    assert peer.enqueue_unique("b", UNIQUE_MSG, now_ns, lock, 3600) == 1


def test_a_unique_task_that_fails_for_good_gives_up_its_lock_unlike_in_go(
    broker: Any, redis: Any, peer: AsynqPeer
) -> None:
    lock = UNIQUE.decode().removeprefix("asynq:{q}:")
    peer.enqueue_unique("a", UNIQUE_MSG, NOW_MS * 1_000_000, lock, 3600)
    fetch(broker)
    msg = failure_commands.failed_message(UNIQUE_MSG, "boom", NOW_MS, counts=False)
    assert broker.run(failure_commands.archive("q", failure("a"), msg, NOW_MS, WHO)) is True
    assert redis.get(UNIQUE) is None
    assert redis.hget(T, "unique_key") == UNIQUE


def test_a_kept_result_is_written_as_go_writes_it(broker: Any, redis: Any, peer: AsynqPeer) -> None:
    write(redis, KEPT_MSG, "pending", pending_since=1)
    found = fetch(broker)
    done = ended("a", keep_until=NOW + 60, msg=with_completed_at(found.msg, NOW), result=b"\xff")
    assert broker.run(lifecycle.complete("q", [done], NOW_MS, WHO)) == []
    assert decode_task(redis.hget(T, "msg")) == {**FIELDS, "retention": 60, "completed_at": NOW}
    assert redis.hmget(T, "state", "result") == [b"completed", b"\xff"]
    assert redis.execute_command("ZRANGE", "asynq:{q}:completed", 0, -1) == [b"a"]
    assert redis.zscore("asynq:{q}:completed", "a") == NOW + 60
    assert redis.ttl(T) == -1


@pytest.mark.parametrize("state", ["scheduled", "retry"])
def test_a_waiting_task_of_go_is_forwarded_at_the_end_of_its_second(
    broker: Any, redis: Any, peer: AsynqPeer, state: str
) -> None:
    write(redis, MSG, state)
    assert broker.run(maintenance.forward("q", NOW * 1000 + 999)).moved == 0
    assert broker.run(maintenance.forward("q", NOW * 1000 + 1_000)).moved == 1
    assert redis.hget(T, "pending_since") == b"%d" % ((NOW + 1) * 1_000_000_000)
    assert fetch(broker).msg == MSG


def test_a_retried_task_is_forwarded_by_go_at_the_second_after_it_is_due(
    broker: Any, redis: Any, peer: AsynqPeer
) -> None:
    write(redis, MSG, "pending", pending_since=1)
    fetch(broker)
    msg = failure_commands.failed_message(MSG, "boom", 1_700_000_000_999, counts=True)
    assert msg == FAILED_MSG
    due = NOW * 1000 + 1_001
    assert broker.run(failure_commands.retry("q", failure("a"), msg, due, NOW_MS, WHO)) is True
    assert redis.zrange("asynq:{q}:retry", 0, -1, withscores=True) == [(b"a", NOW + 2)]
    assert peer.forward(NOW + 1) == 0
    assert peer.forward(NOW + 2) == 1
    assert peer.dequeue(NOW + 2) == FAILED_MSG
    # Another retry, by Go this time: the old exact time must not make it early.
    peer.retry("a", FAILED_MSG, NOW + 100)
    assert broker.run(maintenance.forward("q", (NOW + 100) * 1000 + 999)).moved == 0
    assert broker.run(maintenance.forward("q", (NOW + 101) * 1000)).moved == 1


def test_a_task_of_ours_is_run_to_its_end_by_go(broker: Any, redis: Any, peer: AsynqPeer) -> None:
    broker.run(enqueue.enqueue("q", [NewTask("a", KEPT_MSG)], NOW_MS))
    assert peer.dequeue(NOW) == KEPT_MSG
    peer.requeue("a")
    check_invariants(dump(redis))
    assert peer.dequeue(NOW) == KEPT_MSG
    peer.complete("a", KEPT_MSG, NOW + 60)
    content = dump(redis)
    check_invariants(content)
    assert content["completed"] == Zset(a=NOW + 60)
    assert broker.run(maintenance.delete_expired("q", (NOW + 60) * 1000)) == 1
    assert redis.exists(T) == 0


def test_a_task_that_we_fetched_and_lost_is_retried_by_a_server_in_go(
    broker: Any, redis: Any, peer: AsynqPeer
) -> None:
    broker.run(enqueue.enqueue("q", [NewTask("a", MSG)], NOW_MS))
    fetch(broker)
    assert redis.zrangebyscore("asynq:{q}:lease", "-inf", NOW + 31) == [b"a"]  # its recoverer
    peer.retry("a", FAILED_MSG, NOW + 40)
    check_invariants(dump(redis))
    assert broker.run(lifecycle.complete("q", [ended("a", fence=FENCE)], NOW_MS, WHO)) == [0]
    assert peer.forward(NOW + 40) == 1
    assert fetch(broker, LEASE_MS).attempt == 2


def test_go_counts_on_in_our_counters_and_we_in_those_of_go(
    broker: Any, redis: Any, peer: AsynqPeer
) -> None:
    redis.set("asynq:{q}:processed", 41)
    write(redis, MSG, "pending", pending_since=1)
    fetch(broker)
    broker.run(lifecycle.complete("q", [ended("a")], NOW_MS, WHO))
    write(redis, MSG, "pending", pending_since=1)
    peer.dequeue(NOW)
    peer.done("a")
    assert redis.get("asynq:{q}:processed") == b"43"


def test_what_go_reads_of_a_task_is_there_in_every_state(broker: Any, redis: Any) -> None:
    """Go reads msg, state, pending_since and result of each hash.

    It parses the scores as integers, and the pending time as nanoseconds.
    """
    other = bytes_field(1, b"email") + bytes_field(3, b"b") + number_field(8, 1800)
    broker.run(enqueue.enqueue("q", [NewTask("a", MSG)], NOW_MS))
    broker.run(enqueue.schedule("q", [(NewTask("b", other), NOW_MS + 1)], NOW_MS))
    hashes = [redis.hgetall(f"asynq:{{q}}:t:{i}") for i in "ab"]
    assert hashes[0] == {
        b"msg": MSG,
        b"state": b"pending",
        b"pending_since": b"2000000000123000000",
    }
    assert hashes[1] == {
        b"msg": other,
        b"state": b"scheduled",
        b"nbq:due": b"2000000000124",
    }
    assert redis.execute_command("ZSCORE", "asynq:{q}:scheduled", "b") == NOW + 1
    fetch(broker)
    assert redis.hgetall(T) == {
        b"msg": MSG,
        b"state": b"active",
        b"nbq:attempt": b"1",
        b"nbq:lease": TOKEN.encode() + b"|2000000000123000000",
    }
