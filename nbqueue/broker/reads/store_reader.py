"""Read queues, tasks and counters of a store, in slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from typing import Any

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands import inspect
from nbqueue.broker.commands.inspect import Counts
from nbqueue.broker.commands.retention import utc_day
from nbqueue.broker.reads.key_faults import faults_of_queues
from nbqueue.broker.reads.models import DailyStats, QueueInfo, TaskInfo
from nbqueue.broker.reads.needed_workers import NeededWorkers
from nbqueue.broker.reads.slices import QUEUES_AT_ONCE, in_slices
from nbqueue.broker.reads.task_infos import INFO_FIELDS, NO_HASH, damaged_info, info_of
from nbqueue.clock import from_ms
from nbqueue.errors import QueueNotFound, StoreDamaged
from nbqueue.names import did_you_mean
from nbqueue.store.refusal_errors import KeyDenied
from nbqueue.transport.script_call import Arg
from nbqueue.transport.topology import Key, Place
from nbqueue.wire import decoding, fields, states
from nbqueue.wire.decoding import whole_number
from nbqueue.wire.keys import (
    QUEUES,
    QueueKeys,
    check_queue_name,
    is_queue_name,
    name_bytes,
    stored_keys,
    stored_name,
)

SLICE = 500
_SAMPLE = 20
_SAMPLED_GROUPS = 5
_LISTS = (states.PENDING, states.ACTIVE)
LISTED = (
    states.PENDING,
    states.ACTIVE,
    states.SCHEDULED,
    states.RETRY,
    states.ARCHIVED,
    states.COMPLETED,
)
"""States with one key for all tasks.

Aggregating tasks have a key for each group.
"""

_MOST_NAMES = 20
"""Most queues that an error names."""


def no_queue(queue: str, known: Sequence[str]) -> QueueNotFound:
    """Return the error for a queue that is none of the known ones."""
    names = ", ".join(map(repr, known[:_MOST_NAMES])) or "none"
    if len(known) > _MOST_NAMES:
        names += f" and {len(known) - _MOST_NAMES:,} more"
    question = did_you_mean(queue, known)
    end = f": {question} There are {names}" if question else f"; there are: {names}"
    return QueueNotFound(f"there is no queue {queue!r}{end}", queue)


class StoreReader:
    """Reads queues and tasks through a `Broker`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def check_queue(self, queue: str) -> None:
        """Raise `QueueNotFound` unless the queue exists."""
        if not isinstance(queue, str):
            check_queue_name(queue)
        [is_there] = self._broker.call(("SISMEMBER", QUEUES, queue), on=Key(QUEUES))
        if not is_there:
            check_queue_name(queue)
            raise no_queue(queue, self._broker.queues())

    def checked_names(self, names: Sequence[str]) -> Sequence[str]:
        """Return ``names`` if each is valid or names a queue in the store.

        Programs in Go can make queues with names that are not valid here.

        Raises `UsageError`.
        """
        odd = [name for name in names if not isinstance(name, str) or not is_queue_name(name)]
        for part in in_slices(odd, QUEUES_AT_ONCE):
            texts = [name for name in part if isinstance(name, str)]
            calls = [("SISMEMBER", QUEUES, name) for name in texts]
            found = dict(
                zip(texts, self._broker.call(*calls, on=Key(QUEUES)) if calls else (), strict=True)
            )
            for name in part:
                if not isinstance(name, str) or not found[name]:
                    check_queue_name(name)
        return names

    # --- Queues ----------------------------------------------------------------------------------

    def queue(self, queue: str, *, memory: bool = False) -> QueueInfo:
        """Return one queue as a whole. Raises `QueueNotFound`."""
        self.check_queue(queue)
        [found] = self.queues([queue])
        if not memory:
            return found
        try:
            return replace(found, memory=self._memory(queue))
        except StoreDamaged:
            return found

    def queues(self, names: Sequence[str]) -> list[QueueInfo]:
        """Return queues as a whole, in the order of ``names``, with few round trips.

        A queue that does not exist counts as empty; one that cannot be read has a fault.
        """
        found: list[QueueInfo] = []
        for part in in_slices(names, QUEUES_AT_ONCE):
            now_ms = self._broker.clock.now_ms()
            replies = self._broker.try_run([inspect.counts(name, now_ms) for name in part])
            counts = [inspect.UNKNOWN if isinstance(each, KeyDenied) else each for each in replies]
            aggregating = self._aggregating(part, counts)
            faulty = [
                name
                for name, each, size in zip(part, counts, aggregating, strict=True)
                if size is None or None in each.numbers.values() or not is_queue_name(name)
            ]
            faults = faults_of_queues(self._broker, faulty)
            for name, each, size in zip(part, counts, aggregating, strict=True):
                texts = [f"{fault.key!r} {fault.text}" for fault in faults.get(name, ())]
                found.append(_queue_info(name, each, size, "; ".join(texts) or None, now_ms))
        return found

    def _aggregating(self, names: Sequence[str], counts: Sequence[Counts]) -> list[int | None]:
        """Count the aggregating tasks of each queue; None if that cannot be read."""
        sets = self._broker.try_call_each(
            (name, ("ZCARD", stored_keys(name).aggregation_sets)) for name in names
        )
        found: list[int | None] = []
        for name, each, there in zip(names, counts, sets, strict=True):
            if each.numbers["groups"] == 0 and there == 0:
                found.append(0)
                continue
            try:
                found.append(sum(self.groups(name).values()) + sum(self._sets(name).values()))
            except StoreDamaged:
                found.append(None)
        return found

    def history(self, queue: str, days: int) -> list[DailyStats]:
        """Return the statistics of the last ``days`` days, today first. Raises `QueueNotFound`."""
        self.check_queue(queue)
        return self.histories([queue], days)[queue]

    def histories(self, names: Sequence[str], days: int) -> dict[str, list[DailyStats]]:
        """Return the statistics of the last ``days`` days for each queue, today first."""
        today = utc_day(self._broker.clock.now_ms())
        dates = [today - timedelta(days=i) for i in range(days)]
        found: dict[str, list[DailyStats]] = {}
        for part in in_slices(names, QUEUES_AT_ONCE):
            calls: list[tuple[Place, Sequence[Arg]]] = []
            for keys in map(stored_keys, part):
                counters = ((keys.processed_on(day), keys.failed_on(day)) for day in dates)
                calls.append((keys.queue, ("MGET", *chain.from_iterable(counters))))
            # MGET treats a key of the wrong type as one that does not exist.
            for name, values in zip(part, self._broker.try_call_each(calls), strict=True):
                if isinstance(values, KeyDenied):
                    values = [None] * (2 * days)
                numbers = [whole_number(each or b"0") or 0 for each in values]
                found[name] = [
                    DailyStats(name, day, *both)
                    for day, *both in zip(dates, numbers[::2], numbers[1::2], strict=True)
                ]
        return found

    def groups(self, queue: str) -> dict[str, int]:
        """Return the aggregation groups of a queue with their numbers of tasks."""
        keys = stored_keys(queue)
        found: dict[str, int] = {}
        for names in self._members(queue, keys.groups):
            texts = [stored_name(name) for name in names]
            sizes = self._broker.try_call(
                *(("ZCARD", keys.group(name)) for name in texts), on=queue
            )
            found |= ((text, _size(size)) for text, size in zip(texts, sizes, strict=True))
        return dict(sorted(found.items()))

    def _members(self, queue: str, key: str) -> Iterator[list[bytes]]:
        cursor: bytes | int = 0
        while True:
            [(cursor, members)] = self._broker.call(
                ("SSCAN", key, cursor, "COUNT", SLICE), on=queue
            )
            if members:
                yield members
            if int(cursor) == 0:
                return

    def _sets(self, queue: str) -> dict[str, int]:
        """Return the keys and sizes of the sets of tasks that are being aggregated."""
        [names] = self._broker.call(
            ("ZRANGE", stored_keys(queue).aggregation_sets, 0, -1), on=queue
        )
        if not names:
            return {}
        sizes = self._broker.try_call(*(("ZCARD", name) for name in names), on=queue)
        return {stored_name(name): _size(size) for name, size in zip(names, sizes, strict=True)}

    def _memory(self, queue: str) -> int:
        keys = stored_keys(queue)
        total = sum(self._place_memory(keys.by_state(state), state, keys)[1] for state in LISTED)
        groups = self.groups(queue)
        sampled = [
            self._place_memory(keys.group(name), states.AGGREGATING, keys)
            for name in list(groups)[:_SAMPLED_GROUPS]
        ]
        seen = sum(size for size, _ in sampled)
        if seen:
            total += sum(used for _, used in sampled) * sum(groups.values()) / seen
        return round(total)

    def _place_memory(self, place: str, state: str, keys: QueueKeys) -> tuple[int, float]:
        """Return the number of tasks of a key, and their estimated memory.

        The memory is that of the key and the tasks.
        """
        is_list = state in _LISTS
        size, ids, own = self._broker.call(
            ("LLEN" if is_list else "ZCARD", place),
            ("LRANGE" if is_list else "ZRANGE", place, 0, _SAMPLE - 1),
            ("MEMORY", "USAGE", place),
            on=keys.queue,
        )
        if not ids:
            return 0, 0.0
        prefix = name_bytes(keys.task_prefix)
        # All fields of each: in a large task, a few of them are nearly everything.
        usage = (("MEMORY", "USAGE", prefix + i, "SAMPLES", 0) for i in ids)
        used = self._broker.call(*usage, on=keys.queue)
        return size, (own or 0) + size * sum(each or 0 for each in used) / len(ids)

    # --- Tasks -----------------------------------------------------------------------------------

    def place(self, queue: str, state: str, group: str | None) -> str:
        """Return the key that holds the tasks of this state."""
        keys = stored_keys(queue)
        return keys.group(group or "") if state == states.AGGREGATING else keys.by_state(state)

    def slices(
        self, queue: str, state: str, group: str | None = None
    ) -> Iterator[list[tuple[str, int | None]]]:
        """Yield the ids of tasks in Asynq's order with their scores, in slices.

        Pending and active from the oldest on, sets from the lowest score on. What changes between
        two slices may be missed.
        """
        place, start = self.place(queue, state, group), 0
        while True:
            stop = start + SLICE - 1
            if state in _LISTS:
                [found] = self._broker.call(("LRANGE", place, -stop - 1, -start - 1), on=queue)
                yield [(_text(task_id), None) for task_id in reversed(found)]
                count = len(found)
            else:
                [found] = self._broker.call(("ZRANGE", place, start, stop, "WITHSCORES"), on=queue)
                yield _scored(found)
                count = len(found) // 2
            if count < SLICE:
                return
            start += SLICE

    def page(
        self, queue: str, state: str, first: int, count: int, newest_first: bool
    ) -> list[TaskInfo]:
        """Return ``count`` tasks from position ``first``; see `slices` for the order."""
        place, stop = self.place(queue, state, None), first + count - 1
        if state in _LISTS:
            # The oldest of a list is at its end.
            span = (first, stop) if newest_first else (-stop - 1, -first - 1)
            [ids] = self._broker.call(("LRANGE", place, *span), on=queue)
            pairs: list[tuple[str, int | None]] = [(_text(task_id), None) for task_id in ids]
            if not newest_first:
                pairs.reverse()
        else:
            name = "ZREVRANGE" if newest_first else "ZRANGE"
            [members] = self._broker.call((name, place, first, stop, "WITHSCORES"), on=queue)
            pairs = _scored(members)
        infos = self.tasks(queue, [i for i, _ in pairs], [score for _, score in pairs])
        return [info for info in infos if info is not None]

    def snapshot(
        self, queue: str, state: str, group: str | None = None
    ) -> list[tuple[str, int | None]]:
        """Return ids and scores at once; no task that stays there meanwhile is missed."""
        place = self.place(queue, state, group)
        found: dict[str, int | None] = {}
        if state in _LISTS:
            start, part = 0, [b""]
            while part:
                # New tasks push older ones back, so these are read twice rather than missed.
                [part] = self._broker.call(("LRANGE", place, start, start + SLICE - 1), on=queue)
                found |= dict.fromkeys(map(_text, part))
                start += SLICE
            return list(reversed(found.items()))
        cursor: bytes | int = 0
        while True:
            [(cursor, members)] = self._broker.call(
                ("ZSCAN", place, cursor, "COUNT", SLICE), on=queue
            )
            found |= _scored(members)
            if int(cursor) == 0:
                return sorted(found.items(), key=lambda pair: (pair[1] or 0, pair[0]))

    def tasks(
        self, queue: str, task_ids: Sequence[str], scores: Sequence[int | None] | None = None
    ) -> list[TaskInfo | None]:
        """Return tasks of one queue; None for those that do not exist.

        Those that cannot be read have a fault. ``scores`` are their scores in the set of their
        state; they are read where not given.
        """
        if not task_ids:
            return []
        keys = stored_keys(queue)
        found = self._broker.try_call(
            *(("HMGET", keys.task(i), *INFO_FIELDS) for i in task_ids), on=queue
        )
        nothing = [None] * len(INFO_FIELDS)
        damaged = {i for i, values in enumerate(found) if isinstance(values, StoreDamaged)}
        found = [nothing if i in damaged else values for i, values in enumerate(found)]
        if scores is None:
            scores = [None] * len(task_ids)
        asked = [
            (position, "lease" if values[1] == b"active" else values[1].decode())
            for position, values in enumerate(found)
            if scores[position] is None and values[1] in (b"active", b"scheduled", b"retry")
        ]
        known: dict[int, int | None] = dict(enumerate(scores))
        leases: dict[int, float] = {}
        if asked:
            replies = self._broker.try_call(
                *(("ZSCORE", keys.by_state(name), task_ids[i]) for i, name in asked), on=queue
            )
            for (position, name), score in zip(asked, replies, strict=True):
                if isinstance(score, StoreDamaged):
                    continue
                seconds = decoding.score(score)
                if seconds is not None and name == "lease":
                    leases[position] = seconds
                elif seconds is not None:
                    known[position] = int(seconds)
        now_ms = self._broker.clock.now_ms()
        needs = NeededWorkers(self._broker)
        return [
            damaged_info(queue, task_id, "", NO_HASH)
            if i in damaged
            else info_of(queue, task_id, values, known[i], leases.get(i, 0.0), now_ms, needs)
            for i, (task_id, values) in enumerate(zip(task_ids, found, strict=True))
        ]

    def find(self, task_ids: Sequence[str]) -> dict[str, list[str]]:
        """Return for each id the queues that have such a task."""
        names = self._broker.queues()
        found: dict[str, list[str]] = {task_id: [] for task_id in task_ids}
        for name in names:
            keys = stored_keys(name)
            for start in range(0, len(task_ids), SLICE):
                part = task_ids[start : start + SLICE]
                replies = self._broker.try_call(*(("EXISTS", keys.task(i)) for i in part), on=name)
                for task_id, is_there in zip(part, replies, strict=True):
                    if is_there == 1:  # not where the user may not look
                        found[task_id].append(name)
        return found

    def pending_since(self, queue: str, task_ids: Sequence[str]) -> list[float | None]:
        """Return since when tasks have been pending (Unix seconds)."""
        keys = stored_keys(queue)
        found = self._broker.call(
            *(("HGET", keys.task(i), fields.PENDING_SINCE) for i in task_ids), on=queue
        )
        numbers = [whole_number(each) if each else None for each in found]
        return [None if number is None else number / 1e9 for number in numbers]


def _text(task_id: bytes) -> str:
    return task_id.decode("utf-8", "replace")


def _scored(pairs: Sequence[bytes]) -> list[tuple[str, int | None]]:
    found = iter(pairs)
    return [(_text(i), _whole_score(score)) for i, score in zip(found, found, strict=True)]


def _whole_score(score: bytes) -> int | None:
    seconds = decoding.score(score)
    return None if seconds is None else int(seconds)


def _size(reply: Any) -> int:
    """Return the size in a reply; 0 for a key of the wrong type."""
    return 0 if isinstance(reply, StoreDamaged) else int(reply)


def _queue_info(
    queue: str, counts: Counts, aggregating: int | None, fault: str | None, now_ms: int
) -> QueueInfo:
    numbers = {**counts.numbers, states.AGGREGATING: aggregating}
    unknown = {name for name, number in numbers.items() if number is None}
    of_tasks = (*LISTED, states.AGGREGATING)
    if not unknown.isdisjoint(of_tasks):
        unknown.add("size")
    known = {name: number or 0 for name, number in numbers.items()}
    since = counts.oldest_since_ns
    return QueueInfo(
        queue=queue,
        size=sum(known[state] for state in of_tasks),
        paused=counts.is_paused,
        latency=None if since is None else max(0.0, (now_ms * 1_000_000 - since) / 1e9),
        memory=None,
        timestamp=from_ms(now_ms),
        fault=fault,
        unknown=frozenset(unknown),
        **known,
    )
