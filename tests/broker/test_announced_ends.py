"""The end of a task is announced to waiting clients, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from keyspace import NOW_MS, load, task
from transitions import NOW, WHO, active, ended, failure, fetched, kept

from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands import lifecycle, maintenance
from nbqueue.wire.keys import queue_keys

ONE = "ours-1:the-task-1"
TWO = "ours-1:the-task-2"
OTHER = "ours-2:the-task-1"
Hear = Callable[..., list[tuple[str, bytes]]]


@pytest.fixture
def hear(redis: Any, broker: Any) -> Iterator[Hear]:
    """Run a command, and return what was announced meanwhile: (channel, data) of each message."""
    with redis.pubsub() as listener:
        listener.psubscribe("nbqueue:{q}:end:*", "tests:over")
        for _ in range(2):
            assert listener.get_message(timeout=5)["type"] == "psubscribe"

        def hear(command: Any) -> list[tuple[str, bytes]]:
            broker.run(command)
            redis.publish("tests:over", "")
            heard = []
            while True:
                message = listener.get_message(timeout=5)
                assert message is not None, "nothing came"
                if message["channel"] == b"tests:over":
                    return sorted(heard)
                heard.append((message["channel"].decode(), message["data"]))

        yield hear


def test_a_deleted_task_is_told_with_its_result(redis: Any, hear: Hear) -> None:
    load(redis, fetched(active(ONE)))
    assert hear(lifecycle.complete("q", [ended(ONE, result=b"\x00r")], NOW_MS, WHO)) == [
        ("nbqueue:{q}:end:ours-1", b"\x00\x11d\x00\x00\x00\x02" + ONE.encode() + b"\x00r")
    ]


def test_several_ends_go_in_one_message_for_each_listener(redis: Any, hear: Hear) -> None:
    load(redis, fetched(active(ONE), active(OTHER), active(TWO)))
    batch = [kept(ONE, result=b""), ended(OTHER, result=b"o"), kept(TWO, result=b"two")]
    assert hear(lifecycle.complete("q", batch, NOW_MS, WHO)) == [
        (
            "nbqueue:{q}:end:ours-1",
            b"\x00\x11c\x00\x00\x00\x00" + ONE.encode()
            + b"\x00\x11c\x00\x00\x00\x03" + TWO.encode() + b"two",
        ),
        ("nbqueue:{q}:end:ours-2", b"\x00\x11d\x00\x00\x00\x01" + OTHER.encode() + b"o"),
    ]  # fmt: skip


@pytest.mark.parametrize(("size", "letter"), [(65_536, b"c"), (65_537, b"C")])
def test_a_large_result_is_left_in_the_task(
    redis: Any, hear: Hear, size: int, letter: bytes
) -> None:
    load(redis, fetched(active(ONE)))
    body = b"r" * size
    told = body if letter == b"c" else b""
    assert hear(lifecycle.complete("q", [kept(ONE, result=body)], NOW_MS, WHO)) == [
        (
            "nbqueue:{q}:end:ours-1",
            b"\x00\x11" + letter + len(told).to_bytes(4, "big") + ONE.encode() + told,
        )
    ]
    assert redis.hget("asynq:{q}:t:" + ONE, "result") == body


def test_an_archived_task_is_told_with_its_error(redis: Any, hear: Hear) -> None:
    load(redis, fetched(active(ONE)))
    command = failure_commands.archive("q", failure(ONE), b"\x1a\x01a", NOW_MS, WHO, error=b"E")
    assert hear(command) == [
        ("nbqueue:{q}:end:ours-1", b"\x00\x11a\x00\x00\x00\x01" + ONE.encode() + b"E")
    ]


def test_a_cancelled_task_is_told_with_its_error(redis: Any, hear: Hear) -> None:
    load(redis, {"pending": [ONE], f"t:{ONE}": task(ONE, "pending", {"pending_since": 1})})
    msg = redis.hget("asynq:{q}:t:" + ONE, "msg")
    assert hear(maintenance.cancel("q", ONE, msg, msg, b"E", NOW_MS)) == [
        ("nbqueue:{q}:end:ours-1", b"\x00\x11a\x00\x00\x00\x01" + ONE.encode() + b"E")
    ]


def test_what_is_not_an_end_is_not_told(redis: Any, hear: Hear) -> None:
    load(redis, fetched(active(ONE), active(TWO)))
    assert hear(failure_commands.retry("q", failure(ONE), b"\x1a\x01a", NOW_MS, NOW_MS, WHO)) == []
    assert hear(failure_commands.requeue("q", failure(TWO), "lost", NOW_MS, WHO)) == []
    assert hear(lifecycle.complete("q", [ended(ONE)], NOW_MS, WHO)) == []


@pytest.mark.parametrize("task_id", ["a", "ours-1", "é", "ééééééééééé", "aé🐍éaaaaaaaa", "🐍" * 12])
def test_a_client_finds_the_channel_of_any_id(redis: Any, hear: Hear, task_id: str) -> None:
    load(redis, fetched(active(task_id)))
    raw = task_id.encode()
    assert hear(lifecycle.complete("q", [ended(task_id, result=b"")], NOW + 1, WHO)) == [
        (
            queue_keys("q").end_channel(task_id),
            len(raw).to_bytes(2, "big") + b"d\x00\x00\x00\x00" + raw,
        )
    ]
