"""Calls that a worker must refuse, and faults that must not end it."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from nbqueue.calls import functions, payloads
from nbqueue.calls.keys.signing import Keyring
from nbqueue.errors import HandlerNotFound, SignatureError, UsageError
from nbqueue.wire.messages import FAR_TIMEOUT, TaskMessage
from nbqueue.worker.worker import Worker


def nothing(*args: Any) -> str:
    return "ran"


def mark(path: str) -> str:
    with open(path, "a") as file:
        file.write("x ")
    return "ran"


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (self.path,))


def bomb_call(lab: Any, path: Path) -> tuple[functions.Code, TaskMessage]:
    return lab.call(nothing, Bomb(str(path)))


def unsigned(lab: Any, message: TaskMessage) -> None:
    message.payload = payloads.put_call_signature(message.payload, bytes(4), bytes(16))


def altered(lab: Any, message: TaskMessage) -> None:
    message.payload = message.payload[:-2] + bytes([message.payload[-2] ^ 1]) + b"."


def other_flags(lab: Any, message: TaskMessage) -> None:
    payload = bytearray(message.payload)
    payload[8] ^= payloads.COROUTINE
    message.payload = bytes(payload)


def other_id(lab: Any, message: TaskMessage) -> None:
    message.id = "another"


def other_queue(lab: Any, message: TaskMessage) -> None:
    message.queue = "other"


def other_type(lab: Any, message: TaskMessage) -> None:
    message.type = "harmless"


def wrong_key(lab: Any, message: TaskMessage) -> None:
    message.payload = Keyring([b"x" * 32]).sign_call(
        message.payload, message.id, message.queue, message.type
    )


def cut_short(lab: Any, message: TaskMessage) -> None:
    message.payload = message.payload[:20]


def from_the_future(lab: Any, message: TaskMessage) -> None:
    message.payload = message.payload[:4] + b"\x09" + message.payload[5:]


@pytest.fixture(scope="module")
def served(shared_lab: Any) -> Any:
    shared_lab.start_worker(queues={"default": 1, "other": 1})
    return shared_lab


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (unsigned, "not signed"),
        (altered, "changed after it was signed"),
        (other_flags, "changed after it was signed"),
        (other_id, "signed for another task"),
        (other_queue, "signed for another task"),
        (other_type, "signed for another task"),
        (wrong_key, "signed with the key"),
        (cut_short, "cut short"),
        (from_the_future, "newer nbqueue"),
    ],
)
def test_what_nobody_signed_is_archived_and_never_unpickled(
    served: Any, tmp_path: Path, spoil: Any, reason: str
) -> None:
    code, message = bomb_call(served, tmp_path / "exploded")
    message.retry = 5
    spoil(served, message)
    served.put(message, code)
    record = served.wait_for(message.id, queue=message.queue)
    assert record.state == "archived"
    assert reason in record.message.error_msg
    assert record.message.retried == 0
    assert isinstance(served.error_of(record), SignatureError)
    [attempt] = served.attempts(message.id, queue=message.queue)
    assert (attempt["outcome"], attempt["reason"]) == ("archived", "signature")
    assert not (tmp_path / "exploded").exists()
    assert "task archived" in served._workers[0].log()


def test_the_bomb_goes_off_when_it_is_signed(served: Any, tmp_path: Path) -> None:
    code, message = bomb_call(served, tmp_path / "exploded")
    served.put(message, code)
    assert served.value(message.id) == "ran"
    assert (tmp_path / "exploded").exists()


def test_a_signed_message_copied_under_another_id_does_not_run_again(lab: Any) -> None:
    served = lab
    lab.start_worker()
    path = served.mark_file("copied")
    task = served.submit(mark, path)
    served.value(task)
    old = served.redis.hget(f"asynq:{{default}}:t:{task}", "msg")
    served.redis.hset(f"asynq:{{default}}:t:copy-{task}", mapping={"msg": old, "state": "pending"})
    served.redis.lpush("asynq:{default}:pending", f"copy-{task}")
    served.value(served.submit(nothing))
    served.wait_until(
        lambda: (
            served.redis.hget(f"asynq:{{default}}:t:copy-{task}", "state") in (None, b"archived")
        ),
        2,
        "for the copy to be archived",
    )
    assert served.marks("copied") == ["x"]
    assert served.length("active") == served.length("lease") == 0


def test_code_swapped_in_the_store_does_not_run(served: Any, tmp_path: Path) -> None:
    def meant(path: str) -> str:
        return "meant"

    code, message = served.call(meant, str(tmp_path / "exploded"))
    evil = functions.dump_function(lambda path: os.mkdir(path))
    served.put(message, functions.Code(code.fingerprint, evil.blob, code.name, False, False))
    record = served.wait_for(message.id)
    assert record.state == "archived"
    assert "code" in record.message.error_msg
    assert not (tmp_path / "exploded").exists()


def test_missing_code_archives_the_task_and_says_what_to_do(served: Any) -> None:
    _, message = served.call(lambda: 1, retry=5)
    served.put(message)
    record = served.wait_for(message.id)
    assert record.state == "archived"
    assert "submit the task again" in record.message.error_msg


def test_a_package_that_the_worker_lacks_is_named_and_burns_no_retries(served: Any) -> None:
    code, message = served.call(nothing, retry=5)
    payload = payloads.pack_call(code.fingerprint, b"cno_such_package\nthing\n.")
    message.payload = served.keys.sign_call(payload, message.id, message.queue, message.type)
    served.put(message, code)
    record = served.wait_for(message.id)
    assert record.state == "archived"
    assert "no_such_package" in record.message.error_msg
    assert record.message.retried == 0


def test_arguments_that_end_the_unpickler_fail_the_task_only(served: Any) -> None:
    code, message = served.call(nothing, retry=0)
    payload = payloads.pack_call(code.fingerprint, b"cbuiltins\nexit\n(I3\ntR.")
    message.payload = served.keys.sign_call(payload, message.id, message.queue, message.type)
    served.put(message, code)
    assert served.wait_for(message.id).state == "archived"


def test_a_message_without_handler_takes_the_path_of_retries(served: Any) -> None:
    message = TaskMessage(
        type="email:send", payload=b'{"user":1}', id="m1", queue="default", retry=2, timeout=1800
    )
    served.put(message)
    record = served.wait_for("m1", "retry", "archived")
    assert record.state == "retry"
    assert 'handler not found for task "email:send"' in record.message.error_msg
    assert record.message.retried == 1
    due = served.redis.zscore("asynq:{default}:retry", "m1")
    assert 14 <= due - time.time() <= 46
    for_good = TaskMessage(type="x", payload=b"{}", id="m2", queue="default", retry=0, timeout=60)
    served.put(for_good)
    record = served.wait_for("m2")
    assert record.state == "archived"
    assert 'handler not found for task "x"' in record.message.error_msg
    assert isinstance(served.error_of(record), HandlerNotFound)


# --- What must not end a worker -----------------------------------------------------------------


def garbage(lab: Any) -> None:
    lab.redis.hset(
        "asynq:{default}:t:bad", mapping={"msg": b"\xff\xfe no protobuf", "state": "pending"}
    )
    lab.redis.lpush("asynq:{default}:pending", "bad")


def empty(lab: Any) -> None:
    lab.redis.hset("asynq:{default}:t:bad", mapping={"msg": b"", "state": "pending"})
    lab.redis.lpush("asynq:{default}:pending", "bad")


def no_task(lab: Any) -> None:
    lab.redis.lpush("asynq:{default}:pending", "bad")


def negative_retry(lab: Any) -> None:
    code, message = lab.call(nothing, task_id="bad", retry=-1)
    lab.put(message, code)


def negative_timeout(lab: Any) -> None:
    code, message = lab.call(nothing, task_id="bad", timeout=-5)
    lab.put(message, code)


def endless_deadline(lab: Any) -> None:
    code, message = lab.call(nothing, task_id="bad", deadline=2**62)
    lab.put(message, code)


def year_ten_thousand(lab: Any) -> None:
    code, message = lab.call(nothing, task_id="bad", deadline=253_402_300_800)
    lab.put(message, code)


def endless_retention(lab: Any) -> None:
    code, message = lab.call(nothing, task_id="bad", retention=2**62)
    lab.put(message, code)


def long_id(lab: Any) -> None:
    code, message = lab.call(nothing, task_id="bad" + "x" * 70_000)
    lab.put(message, code)


def long_type(lab: Any) -> None:
    code, message = lab.call(nothing, task_id="bad")
    message.type = "t" * 70_000
    message.payload = lab.keys.sign_call(message.payload, "bad", "default", message.type)
    lab.put(message, code)


def id_with_spaces(lab: Any) -> None:
    code, message = lab.call(nothing, task_id="bad \n é 🎉")
    lab.put(message, code)


def failing_with_lone_surrogates(lab: Any) -> None:
    def fail() -> None:
        raise ValueError("\udcff")

    code, message = lab.call(fail, task_id="bad")
    lab.put(message, code)


def code_of_another_kind(lab: Any) -> None:
    code, message = lab.call(lambda: 1, task_id="bad")
    lab.redis.lpush(f"nbqueue:{{default}}:code:{code.fingerprint.hex()}", "x")
    lab.put(message)


def odd_attempt(lab: Any) -> None:
    code, message = lab.call(nothing, task_id="bad")
    lab.redis.set("asynq:{default}:paused", "1")
    lab.put(message, code)
    lab.redis.hset(
        "asynq:{default}:t:bad",
        mapping={"nbq:attempt": "many", "nbq:lost": "some", "pending_since": "never"},
    )
    lab.redis.delete("asynq:{default}:paused")


def huge_attempt(lab: Any) -> None:
    code, message = lab.call(nothing, task_id="bad")
    lab.redis.set("asynq:{default}:paused", "1")
    lab.put(message, code)
    lab.redis.hset("asynq:{default}:t:bad", mapping={"nbq:attempt": str(2**33)})
    lab.redis.delete("asynq:{default}:paused")


def bad_wake(lab: Any) -> None:
    lab.wait_until(lambda: lab.redis.publish("nbqueue:{default}:wake", b"due soon"))


def bad_cancel(lab: Any) -> None:
    lab.wait_until(lambda: lab.redis.publish("asynq:cancel", b"\xff\x00"))


def stale_lease(lab: Any) -> None:
    lab.redis.zadd("asynq:{default}:lease", {"ghost": time.time() - 100.5})
    lab.redis.lpush("asynq:{default}:active", "ghost")


def stale_garbage(lab: Any) -> None:
    lab.redis.hset("asynq:{default}:t:bad", mapping={"msg": b"\xff\xfe", "state": "active"})
    lab.redis.zadd("asynq:{default}:lease", {"bad": time.time() - 100.5})
    lab.redis.lpush("asynq:{default}:active", "bad")


@pytest.mark.parametrize(
    "spoil",
    [
        garbage,
        empty,
        no_task,
        negative_retry,
        negative_timeout,
        endless_deadline,
        year_ten_thousand,
        endless_retention,
        long_id,
        long_type,
        id_with_spaces,
        failing_with_lone_surrogates,
        code_of_another_kind,
        odd_attempt,
        huge_attempt,
        bad_wake,
        bad_cancel,
        stale_lease,
        stale_garbage,
    ],
)
def test_nothing_in_the_store_ends_a_worker(lab: Any, spoil: Any) -> None:
    worker = lab.start_worker(lease=2)
    spoil(lab)
    for _ in range(2):
        task = lab.submit(nothing)
        lab.wait_until(lambda task=task: lab.state(task) == "completed" or not worker.alive)
        assert worker.alive, worker.log()[-2000:]
        assert lab.outcomes(task) == ["completed"]
    # The bad one comes to rest somewhere: it is not tried for ever.
    lab.wait_until(
        lambda: lab.length("lease") == lab.length("pending") == 0 or not worker.alive,
        8,
        "for the bad task to come to rest",
    )
    assert worker.alive, worker.log()[-2000:]
    assert "executor lost" not in worker.log()


def test_results_are_signed_for_their_task_alone(served: Any) -> None:
    first, second = served.submit(nothing), served.submit(nothing)
    served.value(second)
    record = served.wait_for(first)
    with pytest.raises(SignatureError):
        served.keys.verify_result(record.result, second)
    assert struct.unpack(">B", record.result[4:5]) == (1,)
    assert record.message.timeout == FAR_TIMEOUT


def test_no_concurrency_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="concurrency"):
        Worker(concurrency=0)
