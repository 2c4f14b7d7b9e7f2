"""Reading what lies in a store, in slices: queues, tasks and their counters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from nbqueue.broker import inspecting
from nbqueue.broker.broker import Broker
from nbqueue.broker.command import decoded_number, utc_day
from nbqueue.broker.infos import DailyStats, QueueInfo, TaskInfo
from nbqueue.broker.inspecting import Counts
from nbqueue.broker.needs import Needs
from nbqueue.broker.slices import QUEUES_AT_ONCE, in_slices
from nbqueue.clock import from_ms
from nbqueue.errors import QueueNotFound
from nbqueue.wire import fields, states
from nbqueue.wire.attempts import attempts_made
from nbqueue.wire.keys import QUEUES, QueueKeys, queue_keys
from nbqueue.wire.messages import FAR_TIMEOUT, TaskMessage, read_message

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
"""The states whose tasks lie in one place; aggregating ones lie in one for each group."""

_FIELDS = (
    fields.MSG,
    fields.STATE,
    fields.RESULT,
    fields.DUE,
    fields.ATTEMPT,
    fields.LOST,
    fields.GROUP,
    fields.PENDING_SINCE,
    fields.PARKED,
    fields.FAILED,
)


class Reader:
    """Reads queues and tasks through a `Broker`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def check_queue(self, queue: str) -> None:
        """Raises `QueueNotFound`."""
        queue_keys(queue)
        [is_there] = self._broker.call(("SISMEMBER", QUEUES, queue))
        if not is_there:
            names = ", ".join(map(repr, self._broker.queues()[:20])) or "none"
            raise QueueNotFound(f"there is no queue {queue!r}; there are: {names}", queue)

    # --- Queues ----------------------------------------------------------------------------------

    def queue(self, queue: str, *, memory: bool = False) -> QueueInfo:
        """One queue as a whole. Raises `QueueNotFound`."""
        self.check_queue(queue)
        [found] = self.queues([queue])
        return replace(found, memory=self._memory(queue)) if memory else found

    def queues(self, names: Sequence[str]) -> list[QueueInfo]:
        """Many queues as a whole, in this order, with few round trips. A queue that does not exist
        counts as empty."""
        found: list[QueueInfo] = []
        for part in in_slices(names, QUEUES_AT_ONCE):
            now_ms = self._broker.clock.now_ms()
            counts = self._broker.run_all([inspecting.counts(name, now_ms) for name in part])
            aggregating = self._aggregating(part, counts)
            for each in zip(part, counts, aggregating, strict=True):
                found.append(_queue_info(*each, now_ms))
        return found

    def _aggregating(self, names: Sequence[str], counts: Sequence[Counts]) -> list[int]:
        """How many tasks of each queue wait in groups, or are just being aggregated."""
        in_groups = [
            sum(self.groups(name).values()) if each.groups else 0
            for name, each in zip(names, counts, strict=True)
        ]
        sets = self._broker.call(*(("ZCARD", queue_keys(n).aggregation_sets) for n in names))
        return [
            count + (sum(self._sets(name).values()) if there else 0)
            for name, count, there in zip(names, in_groups, sets, strict=True)
        ]

    def history(self, queue: str, days: int) -> list[DailyStats]:
        """What was processed on the last ``days`` days, today first. Raises `QueueNotFound`."""
        self.check_queue(queue)
        return self.histories([queue], days)[queue]

    def histories(self, names: Sequence[str], days: int) -> dict[str, list[DailyStats]]:
        """What was processed in each of many queues on the last ``days`` days, today first."""
        today = utc_day(self._broker.clock.now_ms())
        dates = [today - timedelta(days=i) for i in range(days)]
        found: dict[str, list[DailyStats]] = {}
        for part in in_slices(names, QUEUES_AT_ONCE):
            calls = []
            for keys in map(queue_keys, part):
                counters = ((keys.processed_on(day), keys.failed_on(day)) for day in dates)
                calls.append(("MGET", *chain.from_iterable(counters)))
            for name, values in zip(part, self._broker.call(*calls), strict=True):
                numbers = [decoded_number(each or b"0") or 0 for each in values]
                found[name] = [
                    DailyStats(name, day, *both)
                    for day, *both in zip(dates, numbers[::2], numbers[1::2], strict=True)
                ]
        return found

    def groups(self, queue: str) -> dict[str, int]:
        """The aggregation groups of a queue, and how many tasks wait in each."""
        keys = queue_keys(queue)
        found: dict[str, int] = {}
        for names in self._members(keys.groups):
            texts = [name.decode("utf-8", "replace") for name in names]
            sizes = self._broker.call(*(("ZCARD", keys.group(name)) for name in texts))
            found |= zip(texts, sizes, strict=True)
        return dict(sorted(found.items()))

    def _members(self, key: str) -> Iterator[list[bytes]]:
        cursor: bytes | int = 0
        while True:
            [(cursor, members)] = self._broker.call(("SSCAN", key, cursor, "COUNT", SLICE))
            if members:
                yield members
            if int(cursor) == 0:
                return

    def _sets(self, queue: str) -> dict[str, int]:
        """The sets of tasks that are just being aggregated: their keys and sizes."""
        [names] = self._broker.call(("ZRANGE", queue_keys(queue).aggregation_sets, 0, -1))
        if not names:
            return {}
        sizes = self._broker.call(*(("ZCARD", name) for name in names))
        texts = [name.decode("utf-8", "replace") for name in names]
        return dict(zip(texts, sizes, strict=True))

    def _memory(self, queue: str) -> int:
        keys = queue_keys(queue)
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
        """How many tasks lie in a place, and about what they and the place take."""
        is_list = state in _LISTS
        size, ids, own = self._broker.call(
            ("LLEN" if is_list else "ZCARD", place),
            ("LRANGE" if is_list else "ZRANGE", place, 0, _SAMPLE - 1),
            ("MEMORY", "USAGE", place),
        )
        if not ids:
            return 0, 0.0
        prefix = keys.task_prefix.encode()
        # All fields of each: of a large task a few hold nearly everything.
        usage = (("MEMORY", "USAGE", prefix + i, "SAMPLES", 0) for i in ids)
        used = self._broker.call(*usage)
        return size, (own or 0) + size * sum(each or 0 for each in used) / len(ids)

    # --- Tasks -----------------------------------------------------------------------------------

    def place(self, queue: str, state: str, group: str | None) -> str:
        """The key where tasks of this state lie."""
        keys = queue_keys(queue)
        return keys.group(group or "") if state == states.AGGREGATING else keys.by_state(state)

    def slices(
        self, queue: str, state: str, group: str | None = None
    ) -> Iterator[list[tuple[str, int | None]]]:
        """The ids of tasks in Asynq's order with the scores of their set, slice for slice.

        Pending and active from the oldest on, sets from the lowest score on. What changes between
        two slices may be missed.
        """
        place, start = self.place(queue, state, group), 0
        while True:
            stop = start + SLICE - 1
            if state in _LISTS:
                [found] = self._broker.call(("LRANGE", place, -stop - 1, -start - 1))
                yield [(_text(task_id), None) for task_id in reversed(found)]
                count = len(found)
            else:
                [found] = self._broker.call(("ZRANGE", place, start, stop, "WITHSCORES"))
                yield _scored(found)
                count = len(found) // 2
            if count < SLICE:
                return
            start += SLICE

    def page(
        self, queue: str, state: str, first: int, count: int, newest_first: bool
    ) -> list[TaskInfo]:
        """``count`` tasks from the position ``first`` on; see `slices` for the order."""
        place, stop = self.place(queue, state, None), first + count - 1
        if state in _LISTS:
            # The oldest of a list is at its end.
            span = (first, stop) if newest_first else (-stop - 1, -first - 1)
            [ids] = self._broker.call(("LRANGE", place, *span))
            pairs: list[tuple[str, int | None]] = [(_text(task_id), None) for task_id in ids]
            if not newest_first:
                pairs.reverse()
        else:
            name = "ZREVRANGE" if newest_first else "ZRANGE"
            [members] = self._broker.call((name, place, first, stop, "WITHSCORES"))
            pairs = _scored(members)
        infos = self.tasks(queue, [i for i, _ in pairs], [score for _, score in pairs])
        return [info for info in infos if info is not None]

    def snapshot(
        self, queue: str, state: str, group: str | None = None
    ) -> list[tuple[str, int | None]]:
        """As `slices`, at once: none that lies there all the while is missed."""
        place = self.place(queue, state, group)
        found: dict[str, int | None] = {}
        if state in _LISTS:
            start, part = 0, [b""]
            while part:
                # What comes in pushes back what is there, so that it is read twice, and not missed.
                [part] = self._broker.call(("LRANGE", place, start, start + SLICE - 1))
                found |= dict.fromkeys(map(_text, part))
                start += SLICE
            return list(reversed(found.items()))
        cursor: bytes | int = 0
        while True:
            [(cursor, members)] = self._broker.call(("ZSCAN", place, cursor, "COUNT", SLICE))
            found |= _scored(members)
            if int(cursor) == 0:
                return sorted(found.items(), key=lambda pair: (pair[1] or 0, pair[0]))

    def tasks(
        self, queue: str, task_ids: Sequence[str], scores: Sequence[int | None] | None = None
    ) -> list[TaskInfo | None]:
        """Tasks of one queue; None for what does not exist or cannot be read.

        ``scores`` are those of the sets where they were found; without them these are asked for.
        """
        if not task_ids:
            return []
        keys = queue_keys(queue)
        found = self._broker.call(*(("HMGET", keys.task(i), *_FIELDS) for i in task_ids))
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
            replies = self._broker.call(
                *(("ZSCORE", keys.by_state(name), task_ids[i]) for i, name in asked)
            )
            for (position, name), score in zip(asked, replies, strict=True):
                if score is not None and name == "lease":
                    leases[position] = float(score)
                elif score is not None:
                    known[position] = int(float(score))
        now_ms = self._broker.clock.now_ms()
        needs = Needs(self._broker)
        return [
            _info(queue, task_id, values, known[i], leases.get(i, 0.0), now_ms, needs)
            for i, (task_id, values) in enumerate(zip(task_ids, found, strict=True))
        ]

    def find(self, task_ids: Sequence[str]) -> dict[str, list[str]]:
        """The queues that have a task of this id, for each."""
        names = self._broker.queues()
        found: dict[str, list[str]] = {task_id: [] for task_id in task_ids}
        for name in names:
            keys = queue_keys(name)
            for start in range(0, len(task_ids), SLICE):
                part = task_ids[start : start + SLICE]
                replies = self._broker.call(*(("EXISTS", keys.task(i)) for i in part))
                for task_id, is_there in zip(part, replies, strict=True):
                    if is_there:
                        found[task_id].append(name)
        return found

    def pending_since(self, queue: str, task_ids: Sequence[str]) -> list[float | None]:
        """Since when tasks have been pending, in Unix seconds."""
        keys = queue_keys(queue)
        found = self._broker.call(*(("HGET", keys.task(i), fields.PENDING_SINCE) for i in task_ids))
        numbers = [decoded_number(each) if each else None for each in found]
        return [None if number is None else number / 1e9 for number in numbers]


def _text(task_id: bytes) -> str:
    return task_id.decode("utf-8", "replace")


def _scored(pairs: Sequence[bytes]) -> list[tuple[str, int | None]]:
    found = iter(pairs)
    return [(_text(i), int(float(score))) for i, score in zip(found, found, strict=True)]


def _moment(seconds: float) -> datetime | None:
    """Unix seconds as a datetime; None for 0, which is Asynq's never, and for what is none."""
    try:
        return from_ms(round(seconds * 1000)) if seconds else None
    except (OverflowError, ValueError):
        return None


def _info(
    queue: str,
    task_id: str,
    values: Sequence[Any],
    score: int | None,
    lease_until: float,
    now_ms: int,
    needs: Needs,
) -> TaskInfo | None:
    msg, state, result, due, attempt, lost, group, _, parked, mark = values
    message = read_message(msg) if msg is not None and state is not None else None
    if message is None:
        return None
    word, times_lost = state.decode("utf-8", "replace"), decoded_number(lost or b"0") or 0
    is_active = state == b"active"
    needed = needs.text(queue, word, parked)
    return TaskInfo(
        id=task_id,
        queue=queue,
        type=message.type,
        payload=message.payload,
        headers=dict(message.headers),
        state=word,
        max_retry=message.retry,
        retried=message.retried,
        error=needed or message.error_msg or None,
        last_failed_at=_moment(message.last_failed_at),
        timeout=_timeout(message),
        deadline=_moment(message.deadline),
        group=_text(group) if group else message.group_key or None,
        next_process_at=_next_at(state, score, decoded_number(due or b"-1"), now_ms),
        retention=float(message.retention),
        completed_at=_moment(message.completed_at),
        result=result,
        is_orphaned=is_active and lease_until * 1000 <= now_ms,
        attempt=attempts_made(
            message, word, decoded_number(attempt or b"0") or 0, times_lost, mark
        ),
        lost=times_lost,
    )


def _timeout(message: TaskMessage) -> float | None:
    return float(message.timeout) if 0 < message.timeout < FAR_TIMEOUT else None


def _next_at(state: bytes, score: int | None, due: int | None, now_ms: int) -> datetime | None:
    if state == b"pending":
        return from_ms(now_ms)
    if state not in (b"scheduled", b"retry") or score is None:
        return None
    # The exact time is of this score, unless a program in Go moved the task since.
    if due is not None and -(-due // 1000) == score:
        return from_ms(due)
    return _moment(score)


def _queue_info(queue: str, counts: Counts, aggregating: int, now_ms: int) -> QueueInfo:
    since = counts.oldest_since_ns
    return QueueInfo(
        queue=queue,
        size=sum(counts[:6]) + aggregating,
        groups=counts.groups,
        pending=counts.pending,
        active=counts.active,
        scheduled=counts.scheduled,
        retry=counts.retry,
        archived=counts.archived,
        completed=counts.completed,
        aggregating=aggregating,
        processed=counts.processed,
        failed=counts.failed,
        processed_total=counts.processed_total,
        failed_total=counts.failed_total,
        trimmed=counts.trimmed,
        paused=bool(counts.is_paused),
        latency=None if since is None else max(0.0, (now_ms * 1_000_000 - since) / 1e9),
        memory=None,
        timestamp=from_ms(now_ms),
    )
