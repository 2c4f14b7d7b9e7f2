"""The complete content of a store as one value, to set, compare and check.

Names are short: ``pending`` is ``asynq:{q}:pending``, ``own:events`` is ``nbqueue:{q}:events``. A
list is a list from head to tail, a dict a hash, `Zset` a sorted set, `Until` a string that expires.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from typing import Any

from protobuf import decode_task, encode_task

from nbqueue.wire.keys import SCHEMA_KEY

QUEUE = "q"
NOW_MS = 2_000_000_000_123
"""2033-05-18 03:33:20.123 UTC. In the future, because Redis deletes expired counters."""
_ASYNQ, _OWN = "asynq:{q}:", "nbqueue:{q}:"
_NUMBERS = {"pending_since", "nbq:attempt", "nbq:lost", "nbq:due", "nbq:unique", "nbq:added"}
_NUMBERS |= {"nbq:begun", "nbq:unbegun"}


class Zset(dict[str, float]):
    """A sorted set: scores by member."""


class Stream(list[dict[str, str]]):
    """The entries of a stream, without their ids."""


@dataclass(frozen=True)
class Expiring:
    """A stream that expires after some seconds: its entries by their ids."""

    entries: dict[str, dict[str, str | bytes]]
    seconds: int


@dataclass(frozen=True)
class Until:
    """A string that expires at a Unix second."""

    value: str
    at: int


def full_name(name: str) -> str:
    if name.startswith("asynq:"):
        return name
    return _OWN + name[4:] if name.startswith("own:") else _ASYNQ + name


def short_name(key: str) -> str:
    if key.startswith(_ASYNQ):
        return key[len(_ASYNQ) :]
    return "own:" + key[len(_OWN) :] if key.startswith(_OWN) else key


def message(task_id: str, **fields: Any) -> dict[str, Any]:
    """Return the fields of a message, with defaults for most tests. None omits one."""
    usual = {"type": "t", "payload": b"p", "id": task_id, "queue": QUEUE, "retry": 3}
    usual |= {"timeout": 1800, **fields}
    return {name: value for name, value in usual.items() if value is not None}


def encoded(task_id: str, **fields: Any) -> bytes:
    return encode_task(message(task_id, **fields))


def task(task_id: str, state: str, more: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Return the hash of a task: its message (with ``fields``), state and ``more`` fields."""
    return {"msg": message(task_id, **fields), "state": state, **(more or {})}


def load(redis: Any, content: dict[str, Any]) -> None:
    """Write raw keys, as any program may."""
    pipe = redis.pipeline()
    for name, value in content.items():
        key = full_name(name)
        if isinstance(value, Zset):
            pipe.zadd(key, value)
        elif isinstance(value, Stream):
            for entry in value:
                pipe.xadd(key, entry)
        elif isinstance(value, dict):
            fields = {
                field: encode_task(each) if isinstance(each, dict) else each
                for field, each in value.items()
            }
            pipe.hset(key, mapping=fields)
        elif isinstance(value, list):
            pipe.rpush(key, *value)
        elif isinstance(value, set):
            pipe.sadd(key, *value)
        elif isinstance(value, Expiring):
            for entry_id, entry in value.entries.items():
                pipe.xadd(key, entry, id=entry_id)
            pipe.expire(key, value.seconds)
        elif isinstance(value, Until):
            pipe.set(key, value.value, exat=value.at)
        else:
            pipe.set(key, value)
    pipe.execute()


@contextmanager
def without_memory(redis: Any) -> Iterator[None]:
    """Simulate a server without free memory, which refuses writes."""
    redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        redis.config_set("maxmemory", 0)


def dump(redis: Any, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return everything in the store, decoded, except the short names ``without``."""
    # The first program writes the version of the data.
    keys = sorted(set(redis.scan_iter("*")) - {SCHEMA_KEY.encode()})
    pipe = redis.pipeline()
    for key in keys:
        pipe.type(key)
        pipe.pttl(key)
    found = pipe.execute()
    # A key may expire between the two questions.
    there = [kind != b"none" for kind in found[::2]]
    keys = list(compress(keys, there))
    kinds = [kind.decode() for kind in compress(found[::2], there)]
    ttls = list(compress(found[1::2], there))
    read = {
        "string": lambda key: pipe.get(key),
        "list": lambda key: pipe.lrange(key, 0, -1),
        "set": lambda key: pipe.smembers(key),
        "zset": lambda key: pipe.zrange(key, 0, -1, withscores=True),
        "hash": lambda key: pipe.hgetall(key),
        "stream": lambda key: pipe.xrange(key),
    }
    for key, kind in zip(keys, kinds, strict=True):
        read[kind](key)
    values = pipe.execute()
    seconds, micros = redis.time()
    content: dict[str, Any] = {}
    for key, kind, ttl, value in zip(keys, kinds, ttls, values, strict=True):
        name = short_name(key.decode())
        if name in without or name == "own:cancelled":
            continue  # an index of the archive, which may lag behind it
        if ttl >= 0 and kind == "stream":
            content[name] = Expiring(_with_ids(value), round(ttl / 1000))
            continue
        content[name] = _decoded(kind, value)
        # Everything in these is parked again before they expire.
        is_renewed = name == "own:requirements" or name.startswith("own:wait:need:")
        if ttl >= 0 and not is_renewed:
            assert kind == "string", f"{name} must not expire"
            content[name] = Until(content[name], round(seconds + micros / 1e6 + ttl / 1000))
    return content


def _decoded(kind: str, value: Any) -> Any:
    if kind == "string":
        return value.decode()
    if kind == "list":
        return [each.decode() for each in value]
    if kind == "set":
        return {each.decode() for each in value}
    if kind == "zset":
        return Zset({each.decode(): int(score) if score == int(score) else score
                     for each, score in value})  # fmt: skip
    if kind == "stream":
        return Stream({k.decode(): v.decode() for k, v in entry.items()} for _, entry in value)
    return {field.decode(): _field(field.decode(), each) for field, each in value.items()}


def _with_ids(entries: Any) -> dict[str, dict[str, str | bytes]]:
    return {
        entry_id.decode(): {
            name.decode(): value if name == b"data" else value.decode()
            for name, value in entry.items()
        }
        for entry_id, entry in entries
    }


def _field(name: str, value: bytes) -> Any:
    if name == "msg":
        return decode_task(value)
    if name in ("result", "nbq:error") or name.startswith(("nbq:args:", "nbq:result:")):
        return value
    return int(value) if name in _NUMBERS else value.decode()


_SETS = ("scheduled", "retry", "archived", "completed")
_LISTS = ("pending", "active")


def check_invariants(content: dict[str, Any]) -> None:
    """Check that each task is in exactly one place, the one of its state."""
    homes: dict[str, list[str]] = {}
    for name, value in content.items():
        if name in _LISTS:
            for task_id in value:
                homes.setdefault(task_id, []).append(name)
        elif name in _SETS or name.startswith("g:"):
            where = name if name in _SETS else "aggregating"
            for task_id, score in value.items():
                homes.setdefault(task_id, []).append(where)
                assert isinstance(score, int), f"{name} has a score that Go cannot read: {score}"
    tasks = {name[2:]: value for name, value in content.items() if name.startswith("t:")}
    for task_id, places in homes.items():
        assert len(places) == 1, f"{task_id} lies in {places}"
        assert task_id in tasks, f"{task_id} lies in {places[0]}, and there is no such task"
    for task_id, fields in tasks.items():
        assert "msg" in fields, f"{task_id} has no message: {fields}"
        assert homes.get(task_id) == [fields["state"]], f"{task_id}: {fields}"
        assert ("pending_since" in fields) <= (fields["state"] in ("pending", "archived")), fields
    assert set(content.get("lease", {})) == set(content.get("active", [])), "leases"
    _check_parked(content, tasks)


def _check_parked(content: dict[str, Any], tasks: dict[str, Any]) -> None:
    """Check that parked tasks can be found, and that limits hold."""
    for task_id, fields in tasks.items():
        what = fields.get("nbq:parked", "turn")
        if fields["state"] == "scheduled" and what != "turn":
            assert task_id in content.get(f"own:wait:{what}", {}), f"{task_id} is lost: {fields}"
            if what.startswith("need:"):
                assert what[5:] in content.get("own:requirements", set()), f"nobody knows of {what}"
            else:
                assert what in content.get("own:waiting", {}), f"nobody looks at {what}"
    for name, numbers in content.get("own:limits", {}).items():
        most = numbers.partition("|")[0]
        held = [
            i
            for i in content.get(f"own:limit:{name}", {})
            if i in tasks and tasks[i]["state"] in ("active", "pending")
        ]
        assert not most or len(held) <= int(most), f"{held} hold {name}, which has {most}"
