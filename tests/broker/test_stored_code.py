"""store_code and drop_code: a function's code is kept once for all tasks that use it."""

from __future__ import annotations

from typing import Any

from keyspace import Zset, dump

from nbqueue.broker.commands import enqueue

CODE = b"\x01\xab"


def test_code_is_kept_under_its_fingerprint(broker: Any, redis: Any) -> None:
    for now_ms in (5, 6):
        assert broker.run(enqueue.store_code("q", CODE, b"blob", now_ms)) == 1
        assert dump(redis) == {"own:code:01ab": "blob", "own:codes": Zset({"01ab": now_ms})}


def test_code_that_nobody_asked_for_since_is_forgotten(broker: Any, redis: Any) -> None:
    broker.run(enqueue.store_code("q", CODE, b"blob", 5))
    broker.run(enqueue.store_code("q", b"\x02", b"other", 5))
    assert broker.run(enqueue.drop_code("q", CODE, "5")) is True
    assert dump(redis) == {"own:code:02": "other", "own:codes": Zset({"02": 5})}
    assert broker.run(enqueue.drop_code("q", CODE, "5")) is False


def test_code_that_was_asked_for_meanwhile_is_kept(broker: Any, redis: Any) -> None:
    broker.run(enqueue.store_code("q", CODE, b"blob", 5))
    broker.run(enqueue.enqueue("q", [], 6, CODE))
    assert broker.run(enqueue.drop_code("q", CODE, "5")) is False
    assert dump(redis) == {"own:code:01ab": "blob", "own:codes": Zset({"01ab": 6})}
