"""A busy store holds nothing that a program of Asynq stumbles over.

Everything that nbqueue can do is done, by a real worker, and then the whole store is walked
through, several times: each check is one of the traps that Asynq's programs fall into.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from protobuf import decode, decode_server, decode_task, decode_worker
from waits import wait_until

import nbqueue
from nbqueue.client.client import Client

QUEUES = ("q", "a.b:c", "späte", "paused")
NANOSECONDS = 10**18
"""Any time since 2001, in nanoseconds; none of the next millennium in milliseconds."""
GO_ZERO_SECONDS = -62_135_596_800
OPTION = re.compile(r'^[A-Za-z]+\([^)]*\)$|^Queue\(".*"\)$|^Group\(".*"\)$')
STATES = ("pending", "active", "scheduled", "retry", "archived", "completed", "aggregating")


def work(seconds: float = 0.0) -> str:
    import time

    print("worked")
    time.sleep(seconds)
    return "größer"


def fail(text: str) -> None:
    raise ValueError(text)


def report_twice() -> str:
    import nbqueue

    nbqueue.report(result={"so": "far"})
    nbqueue.report(result="further")
    return "done"


def start_worker(url: str, folder: Path) -> nbqueue.Worker:
    worker = nbqueue.Worker(
        url, queues=QUEUES, concurrency=3, group_grace_period=1, log=folder / "log"
    )
    worker.handle("mail:", lambda task: {"sent": task.type})
    worker.handle("sum", lambda task: task.json())

    @worker.aggregate
    def add_up(group: str, tasks: list[nbqueue.Task]) -> nbqueue.Message:
        return nbqueue.Message("sum", len(tasks), retention="1h")

    return worker


def be_busy(q: Client) -> list[Any]:
    """Use everything; returns futures of what ends soon."""
    limit = nbqueue.Limit("größe", concurrency=1, rate="5/s", burst=2)
    soon: list[Any] = []
    for queue in QUEUES[:3]:
        in_queue = q.options(queue=queue)
        soon += [in_queue.submit(work), in_queue.options(retention=0).submit(work)]
        soon += in_queue.map(work, [0.01] * 3).futures
        soon += in_queue.options(limit=limit).map(work, [0.05] * 4).futures
        soon.append(
            in_queue.options(codec="json", name="näme", timeout="0.4s").submit(report_twice)
        )
        soon.append(in_queue.options(delay=0.3, headers={"a": "ä"}).submit(work))
        soon.append(in_queue.options(timeout=0.2, retry=1, retry_delay=0.2).submit(work, 9))
        soon.append(in_queue.options(retry=1, retry_delay="0.3s").submit(fail, "\udcff\n\x00 é"))
        soon.append(in_queue.enqueue("mail:a", {"to": "zoë"}, retention="1h"))
        soon.append(in_queue.enqueue("mail:b", b"\xff\x00"))
        after = in_queue.options(unique="1h", on_conflict="after", retention="1h")
        soon += [after.submit(work, 0.2) for _ in range(3)]
        in_queue.options(delay="1h", retry=3).submit(work)
        in_queue.options(delay="1h", unique="1h", limit=limit).submit(work, 1)
        in_queue.options(retry=9, retry_delay="1h").submit(fail, "later")
        in_queue.enqueue("nobody", "x", retry=0)
        for group in ("g", "g:with:colons", "größe"):
            for number in range(3):
                in_queue.enqueue("mail:c", {"n": number}, group=group)
            in_queue.enqueue("mail:c", {"n": 3}, group=group, delay="1s")
            in_queue.enqueue("mail:c", {"n": 4, "to": group}, group=group, unique="1h")
        in_queue.schedule(work, "@every 1s", args=(0.0,), id="täglich", limit=limit)
        in_queue.schedule(work, "0 7 * * mon-fri", tz="Europe/Paris", id="never-yet", retry=2)
        in_queue.schedule_message("mail:d", {"a": 1}, "@every 1s", id="m", unique="10s")
    lazy = q.options(queue="paused", unique="1h", on_conflict="after")
    q.options(queue="paused", delay="1h").submit(work, 8)  # from here on the queue is known
    q.inspector.pause("paused")
    waits = [lazy.submit(work) for _ in range(4)]
    for number, move in enumerate(("archive", "delete", "reschedule", "run")):
        more = {"delay": "1h"} if move == "reschedule" else {}
        getattr(q.inspector, move)(waits[number], **more)
    q.options(queue="paused").enqueue("mail:e", None, group="stays").cancel()
    q.options(queue="paused").submit(work, 7).cancel()
    return soon


class Walk:
    """The whole store at one moment."""

    def __init__(self, redis: Any) -> None:
        # One script, or the store changes while it is read.
        found = redis.eval(_READ, 0)
        self.keys = {key: (kind.decode(), value) for key, kind, value, _ in found}
        self.ttl = {key: ttl for key, _, _, ttl in found}
        self.now = time.time()

    def texts(self, key: str) -> list[str]:
        return [each.decode() for each in self.keys.get(key.encode(), ("", []))[1]]

    def scores(self, key: str) -> dict[str, str]:
        flat = self.texts(key)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def check(self) -> None:
        queues = set(self.texts("asynq:queues"))
        for key in self.keys:
            self._check_name(key.decode(), queues)
        for queue in queues:
            self._check_queue(queue)
        self._check_records()

    def _check_name(self, key: str, queues: set[str]) -> None:
        """16, 11: each queue is known, and can be named in a URL."""
        match = re.match(r"^(asynq|nbqueue):\{([^{}/]+)\}:", key)
        if match:
            assert match[2] in queues or match[1] == "nbqueue", key
            assert all(c.isprintable() and c != " " for c in match[2]), key
            return
        assert re.match(
            r"^asynq:(queues$|servers$|workers$|schedulers$|(servers|workers|schedulers):\{|"
            r"scheduler_history:)",
            key,
        ), f"{key} is none of Asynq's, and lies in no slot of a queue"

    def _check_queue(self, queue: str) -> None:
        prefix = f"asynq:{{{queue}}}:"
        homes: dict[str, tuple[str, str]] = {}

        def lies(task_id: str, state: str, where: str) -> None:
            assert task_id not in homes, f"{task_id} lies in {where} and in {homes[task_id]}"
            homes[task_id] = state, where

        for state in ("pending", "active"):
            for task_id in self.texts(prefix + state):  # 15: no id twice
                lies(task_id, state, state)
        assert set(self.scores(prefix + "lease")) == set(self.texts(prefix + "active"))
        for state in ("scheduled", "retry", "archived", "completed"):
            for task_id, score in self.scores(prefix + state).items():
                assert re.match(r"^\d{10}$", score), f"1: {state} has the score {score}"
                lies(task_id, state, state)
        sets = self.scores(prefix + "aggregation_sets")
        groups = set(self.texts(prefix + "groups"))
        for raw in self.keys:
            key = raw.decode()
            if not key.startswith(prefix + "g:"):
                continue
            if key in sets:
                assert ":" not in key.rpartition(":")[2], f"10: {key}"
                assert re.match(r"^\d+$", sets[key]), f"1: {key} until {sets[key]}"
            else:
                group = key[len(prefix + "g:") :]
                assert group in groups, f"{group} has members and is not known"
            for task_id, score in self.scores(key).items():
                assert re.match(r"^\d{10}$", score), f"1: {key} has the score {score}"
                lies(task_id, "aggregating", key)
        hashes = {
            key.decode()[len(prefix + "t:") :]: value
            for key, (kind, value) in self.keys.items()
            if key.decode().startswith(prefix + "t:") and kind == "hash"
        }
        assert set(homes) == set(hashes), "2: each id has a hash, and each hash a place"
        for task_id, flat in hashes.items():
            fields = dict(zip((each.decode() for each in flat[::2]), flat[1::2], strict=True))
            assert self.ttl[f"{prefix}t:{task_id}".encode()] == -1, "14: no task may expire"
            self._check_task(queue, task_id, fields, *homes[task_id])

    def _check_task(
        self, queue: str, task_id: str, fields: dict[str, bytes], state: str, where: str
    ) -> None:
        prefix = f"asynq:{{{queue}}}:"
        assert fields["state"].decode() == state, f"3: {task_id} lies in {where}"
        assert state in STATES
        message = decode_task(fields["msg"])  # 4: text that is no UTF-8 fails here
        assert (message["id"], message["queue"]) == (task_id, queue)
        if state == "aggregating":
            assert fields["group"].decode() == message["group_key"], "3"
            group_key = prefix + "g:" + message["group_key"]
            assert where == group_key or where.startswith(group_key + ":")
        if state == "pending":
            since = fields["pending_since"]
            assert since.isdigit(), f"7: {since!r}"
            assert abs(int(since) - self.now * 1e9) < 600e9, f"7: {since!r}"
            assert int(since) > NANOSECONDS
        assert message.get("timeout") or message.get("deadline"), f"8: {message}"
        assert message.get("timeout", 0) >= 0
        assert message.get("deadline", 0) >= 0
        for lock in (message.get("unique_key"), fields.get("unique_key")):
            if lock is not None:
                name = lock if isinstance(lock, str) else lock.decode()
                assert name.startswith(prefix + "unique:"), f"9: {name!r}"
                ttl = self.ttl.get(name.encode())
                assert ttl is None or ttl > 0, f"{name} would stay for ever"
        unknown = [f for f in fields if f not in _FIELDS and not f.startswith("nbq:")]
        assert unknown == [], f"{task_id} has fields that are nobody's: {unknown}"

    def _check_records(self) -> None:
        for key, (kind, value) in self.keys.items():
            name = key.decode()
            if name.startswith("asynq:servers:{"):
                record = decode_server(value)
                assert record["start_time"] > 0
                assert self.ttl[key] > 0
            elif name.startswith("asynq:workers:{"):
                for raw in value[1::2]:
                    worker = decode_worker(raw)
                    assert worker["start_time"] > 0, "5"
                    assert worker["deadline"] > worker["start_time"], "5"
                assert self.ttl[key] > 0
            elif name.startswith("asynq:schedulers:{"):
                assert kind == "list"
                assert self.ttl[key] > 0, f"{name} would stay for ever"
                for raw in value:
                    _check_entry(raw)
            elif name.startswith("asynq:scheduler_history:"):
                for raw, score in zip(value[::2], value[1::2], strict=True):
                    assert score.isdigit()
                    event = dict(decode(raw))
                    assert event[1].decode()
                    assert dict(decode(event[2]))[1] == int(score)
        for name in ("servers", "workers", "schedulers"):
            for score in self.scores(f"asynq:{name}").values():
                assert score.isdigit(), f"{name}: {score}"


def _check_entry(raw: bytes) -> None:
    fields = decode(raw)
    found = dict(fields)
    for number in (1, 2, 3):
        assert found[number].decode()  # type: ignore[union-attr]
    for option in (value for number, value in fields if number == 5):
        assert OPTION.match(option.decode()), f"6: {option!r}"  # type: ignore[union-attr]
    for number in (6, 7):
        assert number in found, f"5: a time is missing in {fields}"
        seconds = dict(decode(found[number])).get(1, 0)  # type: ignore[arg-type]
        assert seconds == GO_ZERO_SECONDS or seconds > 1_600_000_000, f"5: {seconds}"  # type: ignore[operator]


_FIELDS = ("msg", "state", "pending_since", "result", "group", "unique_key")
_READ = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind, value = redis.call('TYPE', key).ok, ''
  if kind == 'string' then value = redis.call('GET', key)
  elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'set' then value = redis.call('SMEMBERS', key)
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'hash' then value = redis.call('HGETALL', key) end
  found[#found + 1] = { key, kind, value, redis.call('PTTL', key) }
end
return found
"""


@pytest.fixture
def watched(redis: Any) -> Iterator[list[BaseException]]:
    """The store is walked through all the time; what was found wrong meanwhile."""
    wrong: list[BaseException] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1) and not wrong:
            try:
                Walk(redis).check()
            except BaseException as error:
                wrong.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    yield wrong
    done.set()
    thread.join()


def test_a_busy_store_holds_no_trap(
    client: Client, store_url: str, redis: Any, tmp_path: Path, watched: list[BaseException]
) -> None:
    with ExitStack() as stack:
        stack.enter_context(start_worker(store_url, tmp_path))
        soon = be_busy(client)
        limit = time.monotonic() + 120
        for future in soon:
            future.exception(timeout=timedelta(seconds=max(1.0, limit - time.monotonic())))
        wait_until(
            lambda: any(
                redis.zcard(f"asynq:scheduler_history:q:{i}") >= 2 for i in ("m", "täglich")
            ),
            limit - time.monotonic(),
        )
        groups = ("asynq:{q}:groups", "asynq:{q}:aggregation_sets")
        wait_until(lambda: not redis.exists(*groups), limit - time.monotonic())
        walk = Walk(redis)
        kept = {name.decode() for name in walk.keys}
        assert {f"asynq:{{q}}:{s}" for s in ("scheduled", "retry", "archived", "completed")} <= kept
        assert "asynq:schedulers:{nbqueue:q}" in kept
    for error in watched:
        raise error
    Walk(redis).check()
    assert "ERROR" not in (tmp_path / "log").read_text()


FINE = b"\x0a\x01t\x1a\x01a\x22\x01q\x40\x1e"  # type "t", id "a", queue "q", timeout 30


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: r.zadd("asynq:{q}:scheduled", {"a": 2_000_000_000.5}), "1: scheduled"),
        (lambda r: r.delete("asynq:{q}:t:a"), "2: "),
        (lambda r: r.hset("asynq:{q}:t:b", "result", "x"), "2: "),
        (lambda r: r.hset("asynq:{q}:t:a", "state", "pending"), "3: "),
        (lambda r: r.hset("asynq:{q}:t:a", "msg", FINE.replace(b"t", b"\xff")), "decode"),
        (lambda r: r.hset("asynq:{q}:t:a", "msg", FINE[:-2]), "8: "),
        (lambda r: r.hset("asynq:{q}:t:a", "unique_key", "elsewhere"), "9: "),
        (lambda r: r.hset("asynq:{q}:t:a", "strange", "x"), "nobody's"),
        (lambda r: r.expire("asynq:{q}:t:a", 60), "14: "),
        (lambda r: r.zadd("asynq:{q}:retry", {"a": 2_000_000_000}), "lies in"),
        (lambda r: r.srem("asynq:queues", "q"), "asynq:{q}:"),
        (lambda r: r.set("asynq:limits", "x"), "none of Asynq's"),
        (lambda r: r.rpush("asynq:schedulers:{x}", b""), "would stay"),
    ],
)
def test_the_walk_sees_each_trap(redis: Any, spoil: Any, said: str) -> None:
    redis.sadd("asynq:queues", "q")
    redis.hset("asynq:{q}:t:a", mapping={"msg": FINE, "state": "scheduled"})
    redis.zadd("asynq:{q}:scheduled", {"a": 2_000_000_000})
    Walk(redis).check()
    spoil(redis)
    with pytest.raises((AssertionError, UnicodeDecodeError), match=re.escape(said)):
        Walk(redis).check()
