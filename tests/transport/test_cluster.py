"""Slots of keys, the map of a cluster, and scripts that wait while a slot moves."""

from __future__ import annotations

import pytest
from keyspace import NOW_MS, encoded

from nbqueue.broker.commands import enqueue as enqueue_commands
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.cluster.cluster_scripts import for_cluster, is_guard
from nbqueue.transport.cluster.slots import (
    Address,
    SlotRange,
    read_redirection,
    read_slots,
    slot_of,
    slot_of_place,
)
from nbqueue.transport.topology import ANYWHERE, Key

ASKED = Address("10.0.0.1", 7000)


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        ("123456789", 12739),  # from Redis's specification
        ("foo{bar}zap", slot_of("bar")),
        ("foo{{bar}}zap", slot_of("{bar")),
        ("foo{}{bar}", 8363),
        (b"{q}", slot_of("q")),
    ],
)
def test_slots_are_those_of_redis(key: str | bytes, slot: int) -> None:
    assert slot_of(key) == slot
    assert slot_of_place(Key(key)) == slot


def test_a_queue_is_where_its_keys_are() -> None:
    for queue in ("default", "a b", "caf\u00e9", "b\udcff"):
        assert slot_of_place(queue) == slot_of(f"asynq:{{{queue}}}:pending")
    assert slot_of_place(ANYWHERE) == 0


def test_a_map_of_slots_is_read() -> None:
    reply = [
        [0, 99, [b"10.0.0.2", 7001, b"id", []], [b"10.0.0.3", 7002, b"id"]],
        [100, 16383, [b"", 7000, b"id"]],
        [7, 7, [None, 7000]],
    ]
    assert read_slots(reply, ASKED) == [
        SlotRange(0, 99, Address("10.0.0.2", 7001)),
        SlotRange(100, 16383, ASKED),
        SlotRange(7, 7, ASKED),
    ]


@pytest.mark.parametrize(
    "reply", [None, [1], [[0, 1]], [[0, 16384, [b"h", 1]]], [[5, 4, [b"h", 1]]]]
)
def test_no_map_of_slots_is_refused(reply: object) -> None:
    with pytest.raises(ValueError, match="no map of slots"):
        read_slots(reply, ASKED)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("MOVED 3999 10.0.0.2:6381", (3999, Address("10.0.0.2", 6381))),
        ("ASK 1 :6381", (1, Address("10.0.0.1", 6381))),
        ("MOVED 1 ::1:6381", (1, Address("::1", 6381))),
        ("MOVED", None),
        ("MOVED 99999 a:1", None),
        ("MOVED x a:1", None),
        ("MOVED 1 a", None),
    ],
)
def test_redirections_are_read(text: str, found: object) -> None:
    assert read_redirection(text, ASKED) == found


def test_scripts_name_a_key_that_never_exists() -> None:
    plain = enqueue_commands.enqueue("q", [NewTask("1", encoded("1"))], NOW_MS)
    command = for_cluster(plain, is_sharded=False)
    assert [key for key in command.keys if is_guard(key)] == [command.keys[-1]]
    assert slot_of(command.keys[-1]) == slot_of("q")
    assert command.keys[:-1] == list(plain.keys)
    assert command.script.sha != plain.script.sha
    assert for_cluster(command, is_sharded=False) is command
    sharded = for_cluster(plain, is_sharded=True).script.source
    assert b"'SPUBLISH'" in sharded
    assert b"'SHARDNUMSUB'" in sharded
    assert b"'PUBLISH'" not in sharded
    assert b"'NUMSUB'" not in sharded
