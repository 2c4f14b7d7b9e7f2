"""Arguments of stored tasks by name, as cards and frames show them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbqueue
from nbqueue.client.arguments.stored_arguments import stored_calls
from nbqueue.client.client import Client
from nbqueue.wire.keys import queue_keys

KEYS = queue_keys("default")


def fit(lr: float, depth: int = 3, *rest: int, mode: str = "fast", **more: Any) -> float:
    return lr


class Locked:
    """A value whose pickle cannot be loaded."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise PermissionError("not here")


def test_a_call_is_shown_as_python_would_write_it(client: Client) -> None:
    f = client.options(retry_delay="1s").submit(fit, 0.1, mode="x" * 500, size=2)
    [call] = stored_calls(client._session, f.queue, [f.id, "absent"]).values()
    assert call.text == "fit(lr=0.1, mode='" + "x" * 57 + "…', size=2)"
    assert call.values == {
        "lr": 0.1, "depth": 3, "mode": "x" * 500, "size": 2, "rest": (),
    }  # fmt: skip
    assert call.fault is None


def test_a_message_has_the_keys_of_its_payload(client: Client) -> None:
    f, other = client.enqueue("email:deliver", {"user": 1}), client.enqueue("raw", b"\xff")
    calls = stored_calls(client._session, f.queue, [f.id, other.id])
    assert calls[f.id][:2] == ("email:deliver(user=1)", {"user": 1})
    assert calls[other.id].text == "raw(…)"
    assert calls[other.id].fault is not None


def test_without_the_code_arguments_are_named_by_position(client: Client, redis: Any) -> None:
    def gone(lr: float) -> None: ...

    f = client.submit(gone, 0.5, x=1)
    for key in redis.scan_iter(KEYS.code(b"\0" * 16).replace("00" * 16, "*")):
        redis.delete(key)
    [call] = stored_calls(client._session, f.queue, [f.id]).values()
    assert (call.text, call.values) == ("gone(0.5, x=1)", {"0": 0.5, "x": 1})


def test_what_cannot_be_read_has_a_reason(client: Client) -> None:
    f, g, h = client.submit(fit, 1), client.submit(fit, Locked()), client.submit(
        fit, np.zeros(300_000)
    )  # fmt: skip
    calls = stored_calls(client._session, f.queue, [g.id, h.id])
    assert calls[g.id] == ("fit(…)", {}, "its arguments cannot be read: not here")
    assert "large (2.4 MB)" in (calls[h.id].fault or "")
    other = nbqueue.connect(client.url, key="77" * 32)
    try:
        [call] = stored_calls(other._session, f.queue, [f.id]).values()
        assert "key" in (call.fault or "")
    finally:
        other.close()


@pytest.mark.parametrize("at", [30, 60])
def test_a_forged_call_is_not_loaded(client: Client, redis: Any, at: int) -> None:
    f = client.submit(fit, "x" * 20)
    key = KEYS.task(f.id)
    raw = bytearray(redis.hget(key, "msg"))
    place = raw.index(b"\x00nbq") + at
    raw[place] ^= 1
    redis.hset(key, "msg", bytes(raw))
    [call] = stored_calls(client._session, f.queue, [f.id]).values()
    assert call.values == {}
    assert "changed after it was signed" in (call.fault or "")
