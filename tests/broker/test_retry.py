"""retry: a failed task waits for its next try."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, load, task
from protobuf import decode_task, encode_task
from transitions import (
    FENCE,
    NOW,
    SINCE,
    TOKEN,
    WHO,
    active,
    attempt,
    attempts,
    counted,
    events,
    failure,
    fetched,
    mark,
)

from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands.failure import failed_message
from nbqueue.transport.script_call import Command

OWN = {"nbq:lease": f"{TOKEN}|{SINCE}", "nbq:attempt": 1}


def retry(given: Any, due_ms: int, *, counts: bool, **more: Any) -> Command[bool]:
    msg = failed_message(encode_task(given["msg"]), "boom", NOW_MS, counts=counts)
    return failure_commands.retry("q", failure("a", **more), msg, due_ms, NOW_MS, WHO,
                          counts=counts, error=b"E")  # fmt: skip


@pytest.mark.parametrize(("due_ms", "score"), [(NOW * 1000 + 2_000, 2), (NOW * 1000 + 2_001, 3)])
@pytest.mark.parametrize("counts", [True, False])
def test_retry(broker: Any, redis: Any, due_ms: int, score: int, counts: bool) -> None:
    given = active("a", retried=1)
    load(redis, fetched(given, active("b")))
    assert broker.run(retry(given, due_ms, counts=counts)) is True
    assert dump(redis) == {
        **fetched(active("b")),
        "retry": Zset(a=NOW + score),
        "t:a": task(
            "a",
            "retry",
            {
                **OWN,
                "nbq:due": due_ms,
                "nbq:error": b"E",
                "nbq:failed": mark(retried=1 + counts, error_msg="boom", last_failed_at=NOW),
            },
            retried=1 + counts,
            error_msg="boom",
            last_failed_at=NOW,
        ),
        **(counted(1, 1) if counts else {}),
        **events(("retried", "a")),
        **attempts(attempt("a", "retry")),
    }


def test_a_repeat_is_refused_and_changes_nothing(broker: Any, redis: Any) -> None:
    given = active("a")
    load(redis, fetched(given))
    command = retry(given, NOW_MS + 1_000, counts=True)
    assert broker.run(command) is True
    before = dump(redis)
    assert broker.run(command) is False
    assert dump(redis) == before


def test_who_does_not_hold_the_task_changes_nothing(broker: Any, redis: Any) -> None:
    given = active("a")
    load(redis, fetched(given))
    before = dump(redis)
    assert broker.run(retry(given, NOW_MS, counts=True, fence="Tother")) is False
    assert broker.run(retry(given, NOW_MS, counts=True, fence=FENCE[:-1])) is False
    assert broker.run(retry(given, NOW_MS, counts=True, fence="T")) is False
    assert dump(redis) == before


def test_the_error_of_an_earlier_attempt_does_not_pass_for_that_of_the_last(
    broker: Any, redis: Any
) -> None:
    load(redis, fetched(active("a", {"nbq:error": b"earlier"})))
    command = failure_commands.retry("q", failure("a"), b"\x1a\x01a", NOW_MS, NOW_MS, WHO)
    assert broker.run(command) is True
    assert "nbq:error" not in dump(redis)["t:a"]


def test_workers_are_told_when_it_is_due(broker: Any, redis: Any) -> None:
    given = active("a")
    load(redis, fetched(given))
    with redis.pubsub() as listener:
        listener.subscribe("nbqueue:{q}:wake")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        broker.run(retry(given, NOW_MS + 1_500, counts=True))
        assert listener.get_message(timeout=5)["data"] == b"due %d" % (NOW_MS + 1_500)


def test_a_failure_is_noted_in_the_message_as_asynq_notes_it() -> None:
    before = {"type": "t", "id": "a", "payload": b"p", "headers": {"k": "v"}, "retried": 2}
    msg = failed_message(encode_task(before), "text", NOW_MS, counts=True)
    noted = {**before, "error_msg": "text", "last_failed_at": NOW}
    assert decode_task(msg) == {**noted, "retried": 3}
    msg = failed_message(encode_task(before), "text", NOW_MS, counts=False)
    assert decode_task(msg) == noted
