"""Commands that keep, pause, fire and read schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nbqueue.broker.commands.retention import EVENT_CAP
from nbqueue.broker.reads.slices import QUEUES_AT_ONCE, in_slices
from nbqueue.broker.script_commands import command
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.script_call import Command
from nbqueue.wire.decoding import LARGEST, pairs, stream_entry, time_ms, whole_number
from nbqueue.wire.keys import queue_keys, stored_keys, stored_name
from nbqueue.wire.schedule_record import ScheduleEntry, encode_entry

if TYPE_CHECKING:
    from nbqueue.broker.broker import Broker
    from nbqueue.errors import StoreDamaged

_AT_ONCE = 1000

HISTORY_CAP = 1000
"""Approximate number of entries in the history of a schedule."""

STATE_FIELDS = ("revision", "prev", "last", "runs", "paused")


class Fired(NamedTuple):
    """The outcome of a firing in one word, and the new due time.

    The word is one of the script's.
    """

    word: str
    due_ms: int | None


class ScheduleState(NamedTuple):
    """The part of a schedule that changes with each firing."""

    revision: str
    prev_ms: int | None
    last: str | None
    runs: int
    is_paused: bool


def put_schedule(
    queue: str,
    entry: ScheduleEntry,
    due_ms: int | None,
    now_ms: int,
    *,
    seen_revision: str = "",
    keeps_due: bool = False,
    fingerprint: bytes | None = None,
    blob: bytes = b"",
) -> Command[bool]:
    """Keep a schedule.

    Reads as whether it was written.

    It is not if the stored revision is not ``seen_revision``, which is empty for a new schedule.
    """
    keys = queue_keys(queue)
    return command(
        "put_schedule",
        keys,
        {
            "id": entry.id,
            "entry": encode_entry(entry),
            "revision": entry.revision,
            "seen_revision": seen_revision,
            "due_ms": _or_empty(due_ms),
            "keeps_due": int(keeps_due),
            "fingerprint": fingerprint.hex() if fingerprint else "",
            "blob": blob,
            "now_ms": now_ms,
            "wake": keys.wake,
        },
        bool,
        other_keys={
            "state": keys.schedule_state(entry.id),
            "code": keys.code(fingerprint) if fingerprint else keys.code_index,
        },
    )


def remove_schedule(queue: str, schedule_id: str, revision: str = "") -> Command[bool]:
    """Forget a schedule, or only this revision of it.

    Reads as whether there was one.
    """
    keys = stored_keys(queue)
    return command(
        "remove_schedule",
        keys,
        {"id": schedule_id, "revision": revision, "wake": keys.wake},
        bool,
        other_keys={
            "state": keys.schedule_state(schedule_id),
            "history": keys.schedule_history(schedule_id),
        },
    )


def pause_schedule(queue: str, schedule_id: str, is_paused: bool, now_ms: int) -> Command[bool]:
    """Pause or resume a schedule.

    Reads as whether there is such a schedule.
    """
    keys = stored_keys(queue)
    return command(
        "pause_schedule",
        keys,
        {"id": schedule_id, "is_paused": int(is_paused), "now_ms": now_ms, "wake": keys.wake},
        bool,
        other_keys={"state": keys.schedule_state(schedule_id)},
    )


@dataclass(frozen=True, slots=True)
class Due:
    """The due time that a firing is for, and the next due time.

    Both are in Unix milliseconds.
    """

    expected_ms: int | None
    """Due time of the firing; None: fired by hand, at any time."""
    next_ms: int | None
    """Next due time; None: never again."""


BY_HAND: Final = Due(None, None)


@dataclass(frozen=True, slots=True)
class Skip:
    """The reason why a due schedule enqueues nothing, kept in its history."""

    reason: str = ""
    """Reason in one word; empty: the schedule enqueues its task."""
    detail: str = ""


def fire_schedule(
    queue: str,
    entry: ScheduleEntry,
    task: NewTask,
    now_ms: int,
    *,
    due: Due,
    lock: str = "",
    fingerprint: bytes | None = None,
    skip: Skip = Skip(),
) -> Command[Fired]:
    """Enqueue the task of a schedule that is due, or note why not."""
    keys = queue_keys(queue)
    return command(
        "fire_schedule",
        keys,
        {
            "schedule_id": entry.id,
            "revision": entry.revision,
            "expected_ms": _or_empty(due.expected_ms),
            "next_ms": _or_empty(due.next_ms),
            "now_ms": now_ms,
            "id": task.task_id,
            "msg": bytes(task.msg),
            "fingerprint": fingerprint.hex() if fingerprint else "",
            "lock_ms": entry.unique_ms if lock else "",
            "name_seconds": entry.name_seconds if entry.name else "",
            "overlap": int(entry.overlap),
            "max_runs": entry.max_runs,
            "reason": skip.reason,
            "detail": skip.detail,
            "event_cap": EVENT_CAP,
            "history_cap": HISTORY_CAP,
            "task_prefix": keys.task_prefix,
            "limit_name": entry.limit,
            "limit_numbers": entry.limit_numbers,
        },
        _read_fired,
        # A script gets all its keys, used or not, and all must share the slot of the queue.
        other_keys={
            "state": keys.schedule_state(entry.id),
            "history": keys.schedule_history(entry.id),
            "task": keys.task(task.task_id),
            "code": keys.code(fingerprint) if fingerprint else keys.code_index,
            "lock": lock or keys.schedules,
            "name": keys.name(entry.name) if entry.name else keys.schedules,
        },
    )


def _or_empty(ms: int | None) -> int | str:
    return "" if ms is None else ms


def _read_fired(reply: Any) -> Fired:
    word, due = reply
    return Fired(word.decode(), time_ms(due))


def read_state(values: Sequence[bytes | None]) -> ScheduleState:
    """Read the state of a schedule from the values of `STATE_FIELDS`."""
    revision, prev, last, runs, paused = values
    return ScheduleState(
        (revision or b"").decode("utf-8", "replace"),
        time_ms(prev),
        last.decode("utf-8", "replace") if last else None,
        whole_number(runs, 0, LARGEST) or 0,
        paused is not None,
    )


def read_history(entries: Sequence[Any]) -> list[Mapping[str, str]]:
    """Read entries of a schedule's history, in order."""
    return [stream_entry(values) for _, values in entries]


class StoredSchedule(NamedTuple):
    """A schedule as it is stored."""

    queue: str
    id: str
    entry: bytes
    state: list[bytes | None] | StoreDamaged
    """The values of `STATE_FIELDS`."""
    due: bytes | None


def stored_schedules(broker: Broker, queues: Sequence[str]) -> Iterator[StoredSchedule]:
    """Read the schedules of many queues, with few round trips."""
    for part in in_slices(queues, QUEUES_AT_ONCE):
        keys = [stored_keys(name) for name in part]
        entries = broker.try_call_each((each.queue, ("HGETALL", each.schedules)) for each in keys)
        dues = broker.try_call_each(
            (each.queue, ("ZRANGE", each.schedule_due, 0, -1, "WITHSCORES")) for each in keys
        )
        for name, each, raw, due in zip(part, keys, entries, dues, strict=True):
            due_by_id = dict(pairs(due))
            for some in in_slices(sorted(pairs(raw)), _AT_ONCE):
                ids = [stored_name(raw_id) for raw_id, _ in some]
                states = broker.try_call(
                    *(("HMGET", each.schedule_state(i), *STATE_FIELDS) for i in ids), on=name
                )
                for schedule_id, (raw_id, entry), state in zip(ids, some, states, strict=True):
                    yield StoredSchedule(name, schedule_id, entry, state, due_by_id.get(raw_id))
