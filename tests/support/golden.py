"""Asynq's data for each state of a task, byte for byte, written by hand.

Based on the protocol alone (sections A.2 to A.6, B.1 and B.2), without code of nbqueue and without
generated code. Everything happens at `NOW_MS` in the queue ``q``, unless noted otherwise.

The task: type "email:deliver", payload {"user":1}, id "gold-1", 3 retries, 60 s per attempt, a
retention of 600 s.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, NamedTuple

NOW = 2_000_000_000
NOW_MS = 2_000_000_000_123
"""2033-05-18 03:33:20.123 UTC; `NOW` as a varint is 80a8d6b907."""

TASK = b"asynq:{q}:t:gold-1"

# Each line is one field of the message: tag, length or number, content.
HEAD = bytes.fromhex(
    "0a 0d 656d61696c3a64656c69766572"  # 1 type "email:deliver"
    "12 0a 7b2275736572223a317d"  # 2 payload {"user":1}
    "1a 06 676f6c642d31"  # 3 id "gold-1"
    "22 01 71"  # 4 queue "q"
    "28 03"  # 5 retry 3
)
RETRIED_ONCE = bytes.fromhex("30 01")  # 6 retried
ERROR = bytes.fromhex("3a 04 626f6f6d")  # 7 error_msg "boom"
TIMEOUT = bytes.fromhex("40 3c")  # 10 unique_key, 63 bytes: the full name of the lock
UNIQUE_KEY = bytes.fromhex(
    "52 3f"  # 10 unique_key, 63 bytes: the whole name of the lock
    "6173796e713a7b717d3a756e697175653a656d61696c3a64656c697665723a"  # asynq:{q}:unique:…deliver:
    "6332646664353563613133326465333638316433333337653535363834626537"  # the digest, as text
)
FAILED_NOW = bytes.fromhex("58 80a8d6b907")  # 11 last_failed_at NOW
RETENTION = bytes.fromhex("60 d804")  # 12 retention 600
COMPLETED_NOW = bytes.fromhex("68 80a8d6b907")  # 13 completed_at NOW
GROUP_KEY = bytes.fromhex("72 04 6e657773")  # 14 group_key "news"
HEADERS = bytes.fromhex(
    "7a 0c"  # 15 headers, one entry of 12 bytes:
    "0a 05 7472616365"  # 1 "trace"
    "12 03 782d31"  # 2 "x-1"
)

MSG = HEAD + TIMEOUT + RETENTION
RETRIED_MSG = HEAD + RETRIED_ONCE + ERROR + TIMEOUT + FAILED_NOW + RETENTION
ARCHIVED_MSG = HEAD + ERROR + TIMEOUT + FAILED_NOW + RETENTION
COMPLETED_MSG = HEAD + TIMEOUT + RETENTION + COMPLETED_NOW
UNIQUE_MSG = HEAD + TIMEOUT + UNIQUE_KEY + RETENTION
GROUP_MSG = HEAD + TIMEOUT + RETENTION + GROUP_KEY
HEADERS_MSG = HEAD + TIMEOUT + RETENTION + HEADERS

LOCK = b"asynq:{q}:unique:email:deliver:c2dfd55ca132de3681d3337e55684be7"
"""The MD5 of the payload, in lower case.

For an empty payload that is d41d8cd98f00b204e9800998ecf8427e; without a payload the key ends after
the colon.
"""


class Until(NamedTuple):
    """A string that expires at a Unix second."""

    value: bytes
    at: int


class For(NamedTuple):
    """A string that expires this many seconds after it is written."""

    value: bytes
    seconds: int


class Scores(dict[bytes, float]):
    """A sorted set."""


Content = dict[bytes, Any]
"""Content of a store by key.

Keys: bytes or `Until` or `For` (strings), a list, a set, `Scores`, or a dict (a hash).
"""

KEPT_UNTIL = NOW + 90 * 86_400


def _processed(number: bytes = b"1") -> Content:
    return {
        b"asynq:{q}:processed": number,
        b"asynq:{q}:processed:2033-05-18": Until(number, KEPT_UNTIL),
    }


def _failed(number: bytes = b"1") -> Content:
    return {
        b"asynq:{q}:failed": number,
        b"asynq:{q}:failed:2033-05-18": Until(number, KEPT_UNTIL),
    }


def pending_of(msg: bytes) -> Content:
    return {
        b"asynq:queues": {b"q"},
        b"asynq:{q}:pending": [b"gold-1"],
        # In nanoseconds, unlike all other times.
        TASK: {b"msg": msg, b"state": b"pending", b"pending_since": b"2000000000123000000"},
    }


PENDING = pending_of(MSG)
PENDING_WITH_HEADERS = pending_of(HEADERS_MSG)
PENDING_UNIQUE: Content = {
    **pending_of(UNIQUE_MSG),
    TASK: {**pending_of(UNIQUE_MSG)[TASK], b"unique_key": LOCK},
    LOCK: For(b"gold-1", 3600),
}
SCHEDULED: Content = {
    b"asynq:queues": {b"q"},
    b"asynq:{q}:scheduled": Scores({b"gold-1": NOW + 60}),
    TASK: {b"msg": MSG, b"state": b"scheduled"},
}
SCHEDULED_UNIQUE: Content = {
    **SCHEDULED,
    TASK: {b"msg": UNIQUE_MSG, b"state": b"scheduled", b"unique_key": LOCK},
    LOCK: For(b"gold-1", 60 + 3600),  # the lock includes the delay
}
ACTIVE: Content = {
    b"asynq:queues": {b"q"},
    b"asynq:{q}:active": [b"gold-1"],
    b"asynq:{q}:lease": Scores({b"gold-1": NOW + 30}),
    TASK: {b"msg": MSG, b"state": b"active"},
}
RETRY: Content = {
    b"asynq:queues": {b"q"},
    b"asynq:{q}:retry": Scores({b"gold-1": NOW + 60}),
    TASK: {b"msg": RETRIED_MSG, b"state": b"retry"},
    **_processed(),
    **_failed(),
}
ARCHIVED: Content = {
    b"asynq:queues": {b"q"},
    b"asynq:{q}:archived": Scores({b"gold-1": NOW}),
    TASK: {b"msg": ARCHIVED_MSG, b"state": b"archived"},
    **_processed(),
    **_failed(),
}
COMPLETED: Content = {
    b"asynq:queues": {b"q"},
    b"asynq:{q}:completed": Scores({b"gold-1": NOW + 600}),
    TASK: {b"msg": COMPLETED_MSG, b"state": b"completed", b"result": b'{"sent":true}'},
    **_processed(),
}
DONE: Content = {b"asynq:queues": {b"q"}, **_processed()}
"""The rest of a task without a retention."""
AGGREGATING: Content = {
    b"asynq:queues": {b"q"},
    b"asynq:{q}:groups": {b"news"},
    b"asynq:{q}:g:news": Scores({b"gold-1": NOW}),
    TASK: {b"msg": GROUP_MSG, b"state": b"aggregating", b"group": b"news"},
}

STATES: dict[str, Content] = {
    "pending": PENDING,
    "active": ACTIVE,
    "scheduled": SCHEDULED,
    "retry": RETRY,
    "archived": ARCHIVED,
    "completed": COMPLETED,
    "aggregating": AGGREGATING,
}

ENQUEUED: list[tuple[dict[str, Any], Content]] = [
    ({}, PENDING),
    ({"headers": {"trace": "x-1"}}, PENDING_WITH_HEADERS),
    ({"unique": "1h"}, PENDING_UNIQUE),
    ({"at": datetime.fromtimestamp(NOW + 60, timezone.utc)}, SCHEDULED),
    # The delay in whole seconds from here is rounded up, so that nothing begins early.
    ({"delay": 59.877, "unique": "1h"}, SCHEDULED_UNIQUE),
]
"""Options of `enqueue` at `NOW_MS`, and what is in the store afterwards."""


def enqueue(q: Any, **more: Any) -> Any:
    """Enqueue the task with a client, and return its future."""
    options = {"queue": "q", "task_id": "gold-1", "retry": 3, "timeout": 60, "retention": 600}
    return q.enqueue("email:deliver", {"user": 1}, **{**options, **more})


def write(redis: Any, content: Content) -> None:
    """Write this content, as Go programs would."""
    for key, value in content.items():
        if isinstance(value, Until):
            redis.set(key, value.value, exat=value.at)
        elif isinstance(value, For):
            redis.set(key, value.value, ex=value.seconds)
        elif isinstance(value, Scores):
            redis.zadd(key, value)
        elif isinstance(value, dict):
            redis.hset(key, mapping=value)
        elif isinstance(value, list):
            redis.rpush(key, *value)
        elif isinstance(value, set):
            redis.sadd(key, *value)
        else:
            redis.set(key, value)


def read(redis: Any) -> Content:
    """Read all of Asynq's keys, without the fields that nbqueue adds.

    A lease of nbqueue is a score with a fraction, which no Go program parses: its whole seconds are
    returned.
    """
    found: Content = {}
    for key in list(redis.scan_iter("asynq:*")):
        kind = redis.type(key)
        if kind == b"hash":
            fields = redis.hgetall(key).items()
            found[key] = {name: text for name, text in fields if not name.startswith(b"nbq:")}
        elif kind == b"list":
            found[key] = redis.lrange(key, 0, -1)
        elif kind == b"set":
            found[key] = redis.smembers(key)
        elif kind == b"zset":
            scores = Scores(redis.zrange(key, 0, -1, withscores=True))
            if key.endswith(b":lease"):
                scores = Scores({task_id: score // 1 for task_id, score in scores.items()})
            found[key] = scores
        else:
            found[key] = _string(redis, key)
        assert kind == b"string" or redis.ttl(key) == -1, f"{key!r} must not expire"
    return found


def _string(redis: Any, key: bytes) -> Any:
    value, left = redis.get(key), redis.pttl(key)
    if left < 0:
        return value
    if b":unique:" in key:
        return For(value, -(-left // 1000))
    seconds, micros = redis.time()
    return Until(value, round(seconds + micros / 1e6 + left / 1000))
