"""What is asked of the store about schedules: to keep them, to fire them, to read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nbqueue.broker.reads.slices import QUEUES_AT_ONCE, in_slices
from nbqueue.broker.script_commands import EVENT_CAP, NewTask, command
from nbqueue.transport.script_call import Command
from nbqueue.wire.decoding import LARGEST, pairs, stream_entry, time_ms, whole_number
from nbqueue.wire.keys import queue_keys, stored_keys, stored_name
from nbqueue.wire.schedule_record import ScheduleEntry, encode_entry

if TYPE_CHECKING:
    from nbqueue.broker.broker import Broker
    from nbqueue.errors import StoreDamaged

_AT_ONCE = 1000

HISTORY_CAP = 1000
"""About how many entries of its history a schedule keeps."""

STATE_FIELDS = ("revision", "prev", "last", "runs", "paused")


class Fired(NamedTuple):
    """What became of a firing: the script's word, and when the schedule is due now."""

    word: str
    due_ms: int | None


class ScheduleState(NamedTuple):
    """What changes of a schedule with each firing."""

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
    """Keep a schedule. Reads as whether it was written: not if another than the one of
    ``seen_revision`` (empty: none) lies there."""
    keys = queue_keys(queue)
    return command(
        "put_schedule",
        (
            keys.schedules,
            keys.schedule_due,
            keys.schedule_state(entry.id),
            keys.code(fingerprint) if fingerprint else keys.code_index,
            keys.code_index,
        ),
        (
            entry.id,
            encode_entry(entry),
            entry.revision,
            seen_revision,
            _or_empty(due_ms),
            int(keeps_due),
            fingerprint.hex() if fingerprint else "",
            blob,
            now_ms,
            keys.wake,
        ),
        bool,
    )


def remove_schedule(queue: str, schedule_id: str, revision: str = "") -> Command[bool]:
    """Forget a schedule, or only this revision of it. Reads as whether there was one."""
    keys = stored_keys(queue)
    return command(
        "remove_schedule",
        (
            keys.schedules,
            keys.schedule_due,
            keys.schedule_state(schedule_id),
            keys.schedule_history(schedule_id),
        ),
        (schedule_id, revision, keys.wake),
        bool,
    )


def pause_schedule(queue: str, schedule_id: str, is_paused: bool, now_ms: int) -> Command[bool]:
    """Pause a schedule or let it go on. Reads as whether there is such a schedule."""
    keys = stored_keys(queue)
    return command(
        "pause_schedule",
        (keys.schedules, keys.schedule_state(schedule_id)),
        (schedule_id, int(is_paused), now_ms, keys.wake),
        bool,
    )


def fire_schedule(
    queue: str,
    entry: ScheduleEntry,
    task: NewTask,
    now_ms: int,
    *,
    expected_ms: int | None,
    next_ms: int | None,
    lock: str = "",
    fingerprint: bytes | None = None,
    reason: str = "",
    detail: str = "",
) -> Command[Fired]:
    """Enqueue the task of a schedule that is due at ``expected_ms``, or by hand (None); or note
    the ``reason`` why not. Reads as what became of it."""
    keys = queue_keys(queue)
    return command(
        "fire_schedule",
        (
            keys.schedules,
            keys.schedule_due,
            keys.schedule_state(entry.id),
            keys.schedule_history(entry.id),
            keys.task(task.task_id),
            keys.pending,
            keys.events,
            keys.code(fingerprint) if fingerprint else keys.code_index,
            keys.code_index,
            # A script needs the keys also where they are not used; they must share the slot.
            lock or keys.schedules,
            keys.name(entry.name) if entry.name else keys.schedules,
            keys.limits,
        ),
        (
            entry.id,
            entry.revision,
            _or_empty(expected_ms),
            _or_empty(next_ms),
            now_ms,
            task.task_id,
            bytes(task.msg),
            fingerprint.hex() if fingerprint else "",
            entry.unique_ms if lock else "",
            entry.name_seconds if entry.name else "",
            int(entry.overlap),
            entry.max_runs,
            reason,
            detail,
            EVENT_CAP,
            HISTORY_CAP,
            keys.task_prefix,
            entry.limit,
            entry.limit_numbers,
        ),
        _read_fired,
    )


def _or_empty(ms: int | None) -> int | str:
    return "" if ms is None else ms


def _read_fired(reply: Any) -> Fired:
    word, due = reply
    return Fired(word.decode(), time_ms(due))


def read_state(values: Sequence[bytes | None]) -> ScheduleState:
    """The state of a schedule from its hash, in the order of `STATE_FIELDS`."""
    revision, prev, last, runs, paused = values
    return ScheduleState(
        (revision or b"").decode("utf-8", "replace"),
        time_ms(prev),
        last.decode("utf-8", "replace") if last else None,
        whole_number(runs, 0, LARGEST) or 0,
        paused is not None,
    )


def read_history(entries: Sequence[Any]) -> list[Mapping[str, str]]:
    """Entries of the stream of a history as dictionaries, in the same order."""
    return [stream_entry(values) for _, values in entries]


class StoredSchedule(NamedTuple):
    """What the store has of a schedule, as it is there."""

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
