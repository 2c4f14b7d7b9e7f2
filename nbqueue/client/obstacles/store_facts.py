"""Read what decides whether tasks can run: workers, queues, limits, locks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands.presence import SHOWN_SECONDS
from nbqueue.client.obstacles.other_stores import OtherWorker
from nbqueue.errors import StoreError
from nbqueue.limits import read_numbers
from nbqueue.store.refusal_errors import KeyDenied
from nbqueue.transport.topology import Key, Place
from nbqueue.wire import fields, states
from nbqueue.wire.decoding import LAST_MS, score, text, whole_number
from nbqueue.wire.keys import SERVERS, stored_keys
from nbqueue.wire.server_info import WorkerRecord, decode_worker, read_worker_id

Wanted = Mapping[str, Sequence[str]]
"""Queues, each with the ids of those of its tasks to look at; without ids, the queue as a whole."""

MOST_TASKS = 400
"""The most tasks that are looked at in one read."""
_MOST_WORKERS = 200
_MOST_LISTED = 16
_MOST_SILENT = 3
_MOST_PARKED = 5

LIMIT, LOCK = "limit:", "lock:"


class TaskState(NamedTuple):
    """A task: its state, what it is parked for, and when it is due in Unix ms."""

    state: str
    parked: str = ""
    due_ms: int | None = None


class QueueFacts(NamedTuple):
    """A queue: what it holds, and the workers that serve it."""

    paused_s: int | None = None
    """When it was paused, in Unix seconds; 0 if that is unknown, None if it is not paused."""
    pending: int = 0
    active: int = 0
    concurrency: int | None = None
    workers: tuple[WorkerRecord, ...] = ()
    """Those that reported lately, in any status."""
    silent: tuple[tuple[str, float], ...] = ()
    """Ids of those that ended without a farewell, newest first, with their last sign of life."""
    capabilities: tuple[bytes, ...] = ()
    parked: tuple[str, ...] = ()
    """Some limits, locks and requirements for which tasks of the queue are parked."""


class LimitFacts(NamedTuple):
    """A limit, the tasks that run under it, the number that wait, and the next start."""

    concurrency: int | None
    rate: str | None
    holders: tuple[str, ...]
    held: int
    waiting: int
    next_ms: int | None


class LockFacts(NamedTuple):
    """A unique lock: the task that holds it, and for how long at most."""

    holder: str
    left_ms: int | None


class StoreFacts(NamedTuple):
    """Facts about a store at one moment."""

    now_ms: int
    queues: Mapping[str, QueueFacts]
    tasks: Mapping[tuple[str, str], TaskState]
    limits: Mapping[tuple[str, str], LimitFacts]
    locks: Mapping[tuple[str, str], LockFacts]
    alive: tuple[bytes, ...] = ()
    """The keys of the records of workers that reported lately."""
    served: frozenset[str] = frozenset()
    """All queues that a worker takes tasks of; only looked for where one is not served."""
    elsewhere: Mapping[str, tuple[OtherWorker, ...]] = {}
    """Workers of a queue at other stores; only looked for where it is not served here."""


class FactReader:
    """Reads facts through a `Broker`, in at most four round trips."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def read(self, wanted: Wanted) -> StoreFacts:
        """Read what concerns these queues and tasks. Raises `StoreUnreachable`."""
        now_ms = self._broker.clock.now_ms()
        alive, heads, tasks = self._heads(wanted, now_ms)
        listed = self._records(
            _key_of(each) for head in heads.values() for each in _living(head.listed, alive)
        )
        queues, everybody = {}, None
        for queue, head in heads.items():
            here = [r for key, r in listed.items() if queue in r.queues]
            if not any(record.status in TAKES for record in here):
                if everybody is None:
                    everybody = self._records(key.decode("utf-8", "replace") for key in alive)
                here = [record for record in everybody.values() if queue in record.queues]
            silent = self._silent(head.listed, alive, listed) if not here else ()
            queues[queue] = head.facts._replace(workers=tuple(here), silent=silent)
        served = frozenset(
            queue
            for record in (everybody or {}).values()
            if record.status in TAKES
            for queue in record.queues
        )
        parked = [
            (queue, task.parked)
            for (queue, _), task in tasks.items()
            if task.state == states.SCHEDULED
        ]
        parked += [(queue, what) for queue, each in queues.items() for what in each.parked]
        limits, locks = self._held(parked, now_ms)
        return StoreFacts(now_ms, queues, tasks, limits, locks, tuple(alive), served)

    def _heads(
        self, wanted: Wanted, now_ms: int
    ) -> tuple[dict[bytes, None], dict[str, _Head], dict[tuple[str, str], TaskState]]:
        calls: list[tuple[Place, Sequence[Any]]] = [
            (Key(SERVERS), ("ZRANGEBYSCORE", SERVERS, f"({now_ms // 1000}", "+inf"))
        ]
        for queue in wanted:
            keys = stored_keys(queue)
            calls += (
                (queue, ("GET", keys.paused)),
                (queue, ("LLEN", keys.pending)),
                (queue, ("LLEN", keys.active)),
                (queue, ("HGET", keys.settings, "concurrency")),
                (queue, ("ZREVRANGE", keys.workers, 0, _MOST_WORKERS - 1, "WITHSCORES")),
                (queue, ("ZRANGE", keys.capabilities, 0, -1)),
                (queue, ("ZRANGE", keys.waiting, 0, _MOST_PARKED - 1)),
            )
        ids = [(queue, each) for queue, some in wanted.items() for each in some][:MOST_TASKS]
        calls += (
            (q, ("HMGET", stored_keys(q).task(i), fields.STATE, fields.PARKED, fields.DUE))
            for q, i in ids
        )
        replies = iter(map(_sound, self._broker.try_call_each(calls)))
        alive = dict.fromkeys(next(replies) or ())
        heads = {queue: _head([next(replies) for _ in range(7)]) for queue in wanted}
        tasks = {
            place: TaskState(
                text(values[0]), text(values[1] or b""), whole_number(values[2], 0, LAST_MS)
            )
            for place, values in zip(ids, replies, strict=True)
            if values and values[0]
        }
        return alive, heads, tasks

    def _records(self, keys: Iterable[str]) -> dict[str, WorkerRecord]:
        names = list(dict.fromkeys(keys))[:_MOST_WORKERS]
        bodies = self._broker.try_call_each((Key(name), ("GET", name)) for name in names)
        read = ((n, decode_worker(b)) for n, b in zip(names, bodies, strict=True) if _sound(b))
        return {name: record for name, record in read if record is not None}

    def _silent(
        self, listed: Mapping[str, float], alive: Mapping[bytes, None], seen: Mapping[str, Any]
    ) -> tuple[tuple[str, float], ...]:
        """Return the newest workers that are listed but do not report, with their last sign."""
        gone = [i for i in listed if _key_of(i).encode() not in alive and _key_of(i) not in seen]
        gone = gone[:_MOST_SILENT]
        if not gone:
            return ()
        keys = [_key_of(each) for each in gone]
        [until] = self._broker.try_call(("ZMSCORE", SERVERS, *keys), on=Key(SERVERS))
        scores = _sound(until) or [None] * len(keys)
        # The list of a queue is renewed once a minute only.
        signs = (
            max(listed[each], (score(end) or 0.0) - SHOWN_SECONDS)
            for each, end in zip(gone, scores, strict=True)
        )
        return tuple(zip(gone, signs, strict=True))

    def _held(
        self, wanted: Iterable[tuple[str, str]], now_ms: int
    ) -> tuple[dict[tuple[str, str], LimitFacts], dict[tuple[str, str], LockFacts]]:
        """Read the limits and locks for which tasks are parked, each with its queue."""
        parked = dict.fromkeys(each for each in wanted if each[1].startswith((LIMIT, LOCK)))
        calls: list[list[tuple[Place, Sequence[Any]]]] = []
        for queue, what in parked:
            keys, (_, _, name) = stored_keys(queue), what.partition(":")
            words: tuple[Sequence[Any], ...] = (("GET", name), ("PTTL", name))
            if what.startswith(LIMIT):
                holders = keys.limit_holders(name)
                words = (
                    ("HGET", keys.limits, name),
                    ("ZCARD", holders),
                    ("ZRANGE", holders, 0, 1),
                    ("ZCARD", keys.waiters(what)),
                    ("ZSCORE", keys.waiting, what),
                )
            elif not name.startswith(keys.prefix):
                words = ()  # a key in another slot, by a program that writes anything
            calls.append([(queue, each) for each in words])
        replies = iter(map(_sound, self._broker.try_call_each(chain.from_iterable(calls))))
        limits: dict[tuple[str, str], LimitFacts] = {}
        locks: dict[tuple[str, str], LockFacts] = {}
        for (queue, what), asked in zip(parked, calls, strict=True):
            found = [next(replies) for _ in asked]
            name = what.partition(":")[2]
            if what.startswith(LIMIT):
                limits[queue, name] = _limit(found, now_ms)
            elif found and found[0]:
                locks[queue, name] = LockFacts(text(found[0]), whole_number(found[1], 0, LAST_MS))
        return limits, locks


TAKES = frozenset({"active", "new", ""})
"""The statuses of workers that take tasks, or will in a moment."""


class _Head(NamedTuple):
    facts: QueueFacts
    listed: dict[str, float]


def _head(replies: Sequence[Any]) -> _Head:
    paused, pending, active, concurrency, listed, capabilities, parked = replies
    members = listed or ()
    return _Head(
        QueueFacts(
            None if paused is None else whole_number(paused, 0, LAST_MS // 1000) or 0,
            pending or 0,
            active or 0,
            whole_number(concurrency, 1),
            capabilities=tuple(capabilities or ()),
            parked=tuple(map(text, parked or ())),
        ),
        {
            text(name): score(at) or 0.0
            for name, at in zip(members[::2], members[1::2], strict=True)
            if read_worker_id(text(name)) is not None
        },
    )


def _limit(replies: Sequence[Any], now_ms: int) -> LimitFacts:
    numbers, held, holders, waiting, look_at = replies
    concurrency, rate = read_numbers(text(numbers or b""))
    next_ms = whole_number(int(score(look_at) or 0), now_ms, LAST_MS)
    shown = tuple(text(each) for each in holders or ())
    return LimitFacts(concurrency, rate, shown, held or 0, waiting or 0, next_ms)


def _living(listed: Mapping[str, float], alive: Mapping[bytes, None]) -> list[str]:
    return [each for each in listed if _key_of(each).encode() in alive][:_MOST_LISTED]


def _key_of(worker_id: str) -> str:
    name = read_worker_id(worker_id)
    assert name is not None
    return name.info_key


def _sound(reply: Any) -> Any:
    """Return a reply, or None for a key that cannot be read."""
    return None if isinstance(reply, StoreError | KeyDenied) else reply
