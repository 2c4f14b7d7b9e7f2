"""A schedule as it is stored, and as Asynq's programs read it.

A schedule is JSON: what to enqueue (a `TaskMessage` without an id) and when. What changes with each
run is stored apart from it, see docs/schemas.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from nbqueue.wire.decoding import LARGEST, LAST_MS, json_object, moment, shortened
from nbqueue.wire.ids import NUMBERS, make_id, prefix_of
from nbqueue.wire.messages import (
    FAR_TIMEOUT,
    GO_ZERO_SECONDS,
    SchedulerEnqueueEvent,
    SchedulerEntry,
    TaskMessage,
    read_message,
)

SKIP, ONCE, ALL = "skip", "once", "all"
MISSED: Final = (SKIP, ONCE, ALL)


@dataclass(frozen=True)
class ScheduleEntry:
    """A schedule. Times are Unix ms, durations ms; 0 or empty for none.

    message: the encoded task; the payload of a call is a template, signed for this schedule.
    text: what is shown in place of the payload of a call; empty for a message.
    revision: 6 hexadecimal digits, which change with the schedule.
    unique_ms: for how long a run excludes others; the message names the lock.
    name: the name of its tasks, and for how many seconds it is kept.
    owner: the name of the provider that keeps the schedule; empty for one that a user keeps.
    limit: the name of the limit under which its tasks run, and its numbers (`Limit.numbers`).
    """

    id: str
    spec: str
    tz: str
    message: bytes
    text: str
    revision: str
    missed: str = ONCE
    overlap: bool = True
    jitter_ms: int = 0
    start_ms: int = 0
    until_ms: int = 0
    max_runs: int = 0
    unique_ms: int = 0
    name: str = ""
    name_seconds: int = 0
    owner: str = ""
    created_ms: int = 0
    limit: str = ""
    limit_numbers: str = ""

    @property
    def timing(self) -> tuple[Any, ...]:
        """The values that determine when it is due."""
        return (self.spec, self.tz, self.start_ms, self.until_ms, self.max_runs)

    def task(self) -> TaskMessage:
        """The task that is enqueued, without an id."""
        return TaskMessage.FromString(self.message)

    def fire_ms(self, due_ms: int) -> int:
        """Return the time when a run is enqueued, in Unix milliseconds.

        It is later than due by the jitter, on which all workers agree.
        """
        if not self.jitter_ms:
            return due_ms
        digest = hashlib.sha256(f"{self.id}@{due_ms}".encode()).digest()
        return due_ms + int.from_bytes(digest[:8], "big") % (self.jitter_ms + 1)

    def changed(self, **changes: Any) -> ScheduleEntry:
        return replace(self, **changes)


def task_id_of(queue: str, entry: ScheduleEntry, due_ms: int) -> str:
    """Return the id of the task of one run, equal on all workers.

    Its first characters name the channel on which the ends of all tasks of the schedule are
    announced; the time follows, as in the ids of clients.
    """
    prefix = prefix_of(_digest(f"{queue}\0{entry.id}"))
    number = int.from_bytes(_digest(entry.revision), "big") % NUMBERS
    return make_id(prefix, due_ms, number)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def encode_entry(entry: ScheduleEntry) -> bytes:
    values = {**asdict(entry), "message": base64.b64encode(entry.message).decode()}
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def decode_entry(raw: bytes) -> ScheduleEntry:
    """Decode a schedule. Raises `ValueError` if it is malformed.

    Any program may write it.
    """
    try:
        values = json_object(raw)
        known = {name: values[name] for name in _KINDS if name in values}
        known["message"] = base64.b64decode(known["message"], validate=True)
        entry = ScheduleEntry(**known)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"this is no schedule: {error}") from None
    for name, kind in _KINDS.items():
        value = getattr(entry, name)
        is_sound = type(value) is kind
        if is_sound and isinstance(value, int) and kind is int:
            is_sound = 0 <= value <= _LARGEST_OF[name]
        if not is_sound:
            raise ValueError(f"this is no schedule: {name} is {shortened(value)}")
    message = read_message(entry.message)
    if message is None or not message.type:
        raise ValueError("this is no schedule: its message cannot be read")
    if entry.missed not in MISSED or len(entry.revision) != 6 or not entry.id:
        raise ValueError("this is no schedule that this version knows")
    if entry.name and not entry.name_seconds:
        raise ValueError("this is no schedule: its name is kept for 0 seconds")
    return entry


_LARGEST_OF: Final[dict[str, int]] = {
    "jitter_ms": LARGEST,
    "start_ms": LAST_MS,
    "until_ms": LAST_MS,
    "max_runs": LARGEST,
    "unique_ms": LARGEST,
    "name_seconds": LARGEST // 1000,
    "created_ms": LAST_MS,
}
_KINDS: Final[dict[str, type]] = {
    "id": str,
    "spec": str,
    "tz": str,
    "message": bytes,
    "text": str,
    "revision": str,
    "missed": str,
    "overlap": bool,
    "jitter_ms": int,
    "start_ms": int,
    "until_ms": int,
    "max_runs": int,
    "unique_ms": int,
    "name": str,
    "name_seconds": int,
    "owner": str,
    "created_ms": int,
    "limit": str,
    "limit_numbers": str,
}


# --- As Asynq's programs see it ---


NBQUEUE_SCHEDULER = "nbqueue:"
"""Prefix of a queue where Asynq's programs have the id of a scheduler."""


def asynq_id(queue: str, schedule_id: str) -> str:
    """The id of a schedule for Asynq's programs, whose schedules have no queue."""
    return f"{queue}:{schedule_id}"


def asynq_entry(
    queue: str, entry: ScheduleEntry, next_ms: int | None, prev_ms: int | None
) -> bytes:
    """The schedule as a `SchedulerEntry` of Asynq."""
    message = entry.task()
    record = SchedulerEntry(
        id=asynq_id(queue, entry.id),
        spec=entry.spec if entry.tz == "UTC" or "TZ=" in entry.spec else _with_zone(entry),
        task_type=message.type,
        task_payload=entry.text.encode("utf-8", "replace") or message.payload,
        enqueue_options=option_texts(queue, message, entry.unique_ms),
    )
    for field, ms in (
        (record.next_enqueue_time, next_ms),
        (record.prev_enqueue_time, prev_ms),
    ):
        # Unset would be read as 1970, and not as "never".
        field.seconds = GO_ZERO_SECONDS if ms is None else ms // 1000
        field.nanos = 0 if ms is None else ms % 1000 * 1_000_000
    return record.SerializeToString()


def _with_zone(entry: ScheduleEntry) -> str:
    return f"CRON_TZ={entry.tz} {entry.spec}"


def asynq_event(task_id: str, now_ms: int) -> bytes:
    """A run as a `SchedulerEnqueueEvent` of Asynq."""
    event = SchedulerEnqueueEvent(task_id=task_id)
    event.enqueue_time.seconds = now_ms // 1000
    event.enqueue_time.nanos = now_ms % 1000 * 1_000_000
    return event.SerializeToString()


def option_texts(queue: str, message: TaskMessage, unique_ms: int = 0) -> Sequence[str]:
    """Return the options of a task as Go writes them.

    Without parentheses Asynq's reader panics.
    """
    texts = [f"Queue({json.dumps(queue, ensure_ascii=False)})", f"MaxRetry({message.retry})"]
    if message.timeout and message.timeout != FAR_TIMEOUT:
        texts.append(f"Timeout({go_duration(message.timeout * 1000)})")
    if message.deadline:
        until = moment(message.deadline * 1000)
        if until is not None:
            texts.append(f"Deadline({_unix_date(until)})")
    if unique_ms:
        texts.append(f"Unique({go_duration(unique_ms)})")
    if message.retention:
        texts.append(f"Retention({go_duration(message.retention * 1000)})")
    return texts


def go_duration(ms: int) -> str:
    """A duration as Go's ``Duration.String`` writes it: ``1h0m0s``, ``1.5s``, ``500ms``."""
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    seconds, rest = divmod(ms, 1000)
    fraction = f".{rest:03d}".rstrip("0") if rest else ""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{seconds}{fraction}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _unix_date(moment: datetime) -> str:
    days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    return (
        f"{days[moment.weekday()]} {months[moment.month - 1]} {moment.day:2d} "
        f"{moment:%H:%M:%S} UTC {moment.year}"
    )
