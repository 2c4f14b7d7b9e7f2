"""Large arguments and results are detached through the life of a task, key by key."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, encoded, load, task
from transitions import (
    LEASE_MS,
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
    kept,
)

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands import enqueue, inspect, lifecycle, maintenance
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands.enqueue import UniqueLock
from nbqueue.broker.commands.lifecycle import Ended, Fetched
from nbqueue.broker.large_values import argument_fields, result_fields, whole_payload, whole_result
from nbqueue.broker.reads.task_record import Ending
from nbqueue.calls import payloads
from nbqueue.calls.detached import DetachedBody, describe_body
from nbqueue.calls.keys.signing import Keyring
from nbqueue.errors import SignatureError
from nbqueue.runtime.buffers import cut
from nbqueue.tasks.new_task import NewTask

KEYS = Keyring([b"k" * 32])
SINCE_NOW = NOW_MS * 1_000_000
ARGUMENTS = bytes(range(256)) * 10_000
SIZE = 1_000_000
SPLIT = DetachedBody(len(ARGUMENTS), SIZE, describe_body([ARGUMENTS])[0].digest)
HEAD = KEYS.sign_call(payloads.call_head(b"f" * 16, 0, None, SPLIT), "a", "q", "t")
PIECES = {f"nbq:args:{i}": ARGUMENTS[i * SIZE : (i + 1) * SIZE] for i in range(3)}
NEW = NewTask("a", encoded("a", payload=HEAD, retention=60), cut([ARGUMENTS], SIZE))


def signed_result(value: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The head of a result, and the fields of its pieces."""
    beside, pieces = describe_body([value])
    head = KEYS.sign_result(payloads.result_head(payloads.VALUE, beside), "a")
    return head, {name: bytes(piece) for name, piece in result_fields(beside, pieces)}


RESULT, RESULT_PIECES = signed_result(b"r" * 100_000)
OTHER, OTHER_PIECES = signed_result(b"o" * 100_000)
PENDING = {"pending_since": SINCE_NOW, **PIECES}
HELD = {"nbq:lease": f"{TOKEN}|{SINCE_NOW}", "nbq:attempt": 1, **PIECES}


def completed(result: bytes, more: dict[str, bytes]) -> Any:
    own = {"nbq:lease": f"{TOKEN}|{SINCE}", "nbq:attempt": 1, **PIECES, "result": result, **more}
    return task("a", "completed", own, payload=HEAD, retention=60, completed_at=NOW)


def holding(**more: Any) -> dict[str, Any]:
    return fetched(active("a", {**PIECES, **more}, payload=HEAD, retention=60))


def finished(result: bytes = RESULT, pieces: dict[str, bytes] = RESULT_PIECES) -> Ended:
    msg = encoded("a", payload=HEAD, retention=60, completed_at=NOW)
    return kept("a", result=result, result_pieces=list(pieces.items()))._replace(msg=msg)


def test_from_the_line_into_hands_and_back_and_to_the_archive(broker: Any, redis: Any) -> None:
    assert broker.run(enqueue.enqueue("q", [NEW], NOW_MS)) == []
    in_line = {
        "pending": ["a"],
        "t:a": task("a", "pending", PENDING, payload=HEAD, retention=60),
        **events(("enqueued", "a")),
    }
    assert dump(redis) == in_line
    assert broker.run(enqueue.enqueue("q", [NEW], NOW_MS, repeated=True)) == []
    assert dump(redis) == in_line

    found = broker.run(lifecycle.fetch("q", 1, NOW_MS, LEASE_MS, TOKEN))
    assert found == [Fetched("a", NEW.msg, SINCE_NOW, 1, 0)]
    assert dump(redis)["t:a"] == task("a", "active", HELD, payload=HEAD, retention=60)

    failed = failure_commands.failed_message(found[0].msg, "boom", NOW_MS, counts=True)
    assert broker.run(
        failure_commands.retry("q", failure("a"), failed, NOW_MS + 5_000, NOW_MS, WHO)
    )
    assert redis.hget("asynq:{q}:t:a", "msg") == failed
    broker.run(maintenance.forward("q", NOW_MS + 5_000))
    broker.run(lifecycle.fetch("q", 1, NOW_MS, LEASE_MS, TOKEN))
    assert broker.run(failure_commands.archive("q", failure("a", attempt=2), failed, NOW_MS, WHO))
    left = redis.hgetall("asynq:{q}:t:a")
    assert {name: left[name.encode()] for name in PIECES} == PIECES
    assert left[b"state"] == b"archived"
    assert whole_payload(broker, "q", "a", HEAD) == HEAD + ARGUMENTS

    broker.run(inspect.delete("q", ["a"], NOW_MS))
    assert not redis.exists("asynq:{q}:t:a")


@pytest.mark.parametrize("way", ["scheduled", "unique", "after"])
def test_tasks_that_do_not_run_at_once(broker: Any, redis: Any, way: str) -> None:
    lock = "asynq:{q}:unique:t:x"
    for repeated in (False, True):
        if way == "scheduled":
            due = [(NEW, NOW_MS + 5_000)]
            assert broker.run(enqueue.schedule("q", due, NOW_MS, repeated=repeated)) == []
        else:
            redis.set(lock, "z")
            load(redis, {"t:z": task("z", "pending", {"unique_key": lock})})
            if way == "unique":
                redis.delete(lock, "asynq:{q}:t:z")
            word = enqueue.enqueue_unique(
                "q",
                NEW,
                UniqueLock(lock, 9_000, waits_for_holder=way == "after"),
                NOW_MS,
                repeated=repeated,
            )
            assert broker.run(word) == "ENQUEUED"
    found = redis.hgetall("asynq:{q}:t:a")
    assert found[b"msg"] == NEW.msg
    assert {name: found[name.encode()] for name in PIECES} == PIECES
    assert found[b"state"] == (b"pending" if way == "unique" else b"scheduled")
    assert not redis.keys("*staged*")
    redis.flushall()


@pytest.mark.parametrize(
    "before",
    [
        {},
        {"result": b"partial"},
        {"result": OTHER, **OTHER_PIECES},
        {"result": b"partial", **OTHER_PIECES},
        {"result": RESULT},
    ],
)
def test_complete(broker: Broker, redis: Any, before: dict[str, bytes]) -> None:
    load(redis, holding(**before))
    assert broker.run(lifecycle.complete("q", [finished()], NOW_MS, WHO)) == []
    then = {
        "completed": Zset(a=NOW + 60),
        "t:a": completed(RESULT, RESULT_PIECES),
        **counted(1),
        **events(("completed", "a")),
        **attempts(attempt("a", "completed")),
    }
    assert dump(redis) == then
    [end] = broker.endings("q", ["a"])
    assert end == Ending("completed", RESULT + b"r" * 100_000)
    assert bytes(KEYS.verify_result(end.result, "a").body) == b"r" * 100_000
    # A repeat, and the late end of another attempt, change nothing.
    for end_of_another in (finished(), finished(OTHER, OTHER_PIECES)):
        assert broker.run(lifecycle.complete("q", [end_of_another], NOW_MS, WHO)) == [0]
        assert dump(redis) == then


@pytest.mark.parametrize("late_first", [True, False])
def test_a_late_end_with_the_same_result_takes_nothing_away(
    broker: Broker, redis: Any, late_first: bool
) -> None:
    load(redis, holding())
    both = [finished()._replace(fence="Tother"), finished()][:: 1 if late_first else -1]
    assert broker.run(lifecycle.complete("q", both, NOW_MS, WHO)) == [0 if late_first else 1]
    assert dump(redis)["t:a"] == completed(RESULT, RESULT_PIECES)


@pytest.mark.parametrize("way", ["run", "run, archived before", "reschedule"])
@pytest.mark.parametrize("result", [RESULT, b"small"], ids=["large", "small"])
def test_what_runs_again_leaves_no_pieces_behind(
    broker: Any, redis: Any, result: bytes, way: str
) -> None:
    place = "archived" if "archived" in way else "completed"
    pieces = {**RESULT_PIECES, **OTHER_PIECES}
    load(redis, {place: Zset(a=NOW + 60), "t:a": {**completed(result, pieces), "state": place}})
    if way == "reschedule":
        moved = inspect.reschedule("q", ["a"], NOW_MS + 5_000, NOW_MS)
        then = {"scheduled": Zset(a=NOW + 6), **events(("scheduled", "a"))}
        own: dict[str, Any] = {"state": "scheduled", "nbq:due": NOW_MS + 5_000}
    else:
        moved = inspect.run("q", [inspect.ToRun("a")], NOW_MS)
        then = {"pending": ["a"], **events(("enqueued", "a"))}
        own = {"state": "pending", "pending_since": SINCE_NOW}
    assert broker.run(moved) == inspect.Moved({})
    left = {**completed(result, {}), **own}
    if result == RESULT:
        del left["result"]  # of no use without its pieces
    assert dump(redis) == {**then, "t:a": left}


def test_one_that_is_not_ours_any_more_is_left_as_it_is(broker: Any, redis: Any) -> None:
    late = finished()._replace(fence="Tother")
    assert broker.run(lifecycle.complete("q", [late], NOW_MS, WHO)) == [0]
    assert dump(redis) == {}
    load(redis, holding())
    assert broker.run(lifecycle.complete("q", [late], NOW_MS, WHO)) == [0]
    assert dump(redis) == holding()
    redis.flushall()
    load(redis, {"t:a": "text"})
    assert broker.run(lifecycle.complete("q", [late], NOW_MS, WHO)) == [0]
    assert dump(redis) == {"t:a": "text"}
    redis.flushall()


FORGED: dict[str, dict[str, bytes | None]] = {
    "missing": {"nbq:args:1": None},
    "swapped": {"nbq:args:0": PIECES["nbq:args:1"], "nbq:args:1": PIECES["nbq:args:0"]},
    "cut short": {"nbq:args:1": PIECES["nbq:args:1"][:-1]},
    "longer": {"nbq:args:2": PIECES["nbq:args:2"] + b"!"},
    "changed": {"nbq:args:2": PIECES["nbq:args:2"][:-1] + b"!"},
    "all missing": dict.fromkeys(PIECES, None),
}


@pytest.mark.parametrize("how", FORGED)
def test_other_pieces_are_refused(broker: Broker, redis: Any, how: str) -> None:
    stored = {name: piece for name, piece in {**PIECES, **FORGED[how]}.items() if piece is not None}
    load(redis, {"t:a": task("a", "pending", stored, payload=HEAD)})
    whole = whole_payload(broker, "q", "a", HEAD)
    with pytest.raises(SignatureError, match="of the call of task a are missing or were"):
        KEYS.verify_call(whole, "a", "q", "t")
    assert KEYS.verify_call(whole, "a", "q", "t", only_head=True).detached == SPLIT
    redis.flushall()


@pytest.mark.parametrize(
    ("size", "piece"), [(2**60, 1_000_000), (2**63, 64_000_000), (3_000_000, 1_000_000)]
)
def test_a_head_that_promises_too_much_is_not_believed(
    broker: Broker, redis: Any, size: int, piece: int
) -> None:
    head = payloads.result_head(payloads.VALUE, DetachedBody(size, piece, bytes(32)))
    small = {f"nbq:result:{'00' * 8}:{number}": b"r" for number in range(3)}
    load(redis, {"t:a": completed(head, small)})
    assert whole_result(broker, "q", "a", head) == head
    assert broker.endings("q", ["a"]) == [Ending("completed", head)]
    redis.flushall()


def test_the_fields_are_named_by_number() -> None:
    assert argument_fields([b"x", b"y"]) == [("nbq:args:0", b"x"), ("nbq:args:1", b"y")]
    digits = sha256(b"r" * 100_000).hexdigest()[:16]
    assert list(RESULT_PIECES) == [f"nbq:result:{digits}:0"]
