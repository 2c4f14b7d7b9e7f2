"""Schedules as rows: dictionaries for lists and frames."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from nbqueue.broker.commands.schedules import STATE_FIELDS, read_state
from nbqueue.client.schedules.entries import StoredSchedule, payload_text
from nbqueue.clock import to_ms
from nbqueue.durations import format_duration
from nbqueue.errors import StoreDamaged, UsageError
from nbqueue.wire.decoding import moment, time_ms
from nbqueue.wire.schedule_record import decode_entry

if TYPE_CHECKING:
    from nbqueue.client.session import Session

ROW = (
    *("id", "queue", "type", "spec", "tz", "next_at", "prev_at", "paused", "runs", "last_task_id"),
    *("arguments", "missed", "overlap", "jitter", "start", "until", "max_runs", "owner"),
    *("created_at", "fault"),
)
"""The keys of a row."""


def read_row(
    queue: str, schedule_id: str, entry: bytes, values: Any, due: bytes | None
) -> dict[str, Any]:
    """Make the row of a stored schedule; one that cannot be decoded has a ``fault``."""
    is_sound = not isinstance(values, StoreDamaged)
    try:
        state = read_state(values if is_sound else [None] * len(STATE_FIELDS))
        row = row_of(queue, StoredSchedule(decode_entry(entry), state, time_ms(due)))
    except (ValueError, UsageError) as error:
        return {**dict.fromkeys(ROW), "id": schedule_id, "queue": queue, "fault": str(error)}
    if not is_sound:
        row["fault"] = str(values)
    elif due is not None and time_ms(due) is None:
        row["fault"] = f"it is due at {due.decode('utf-8', 'replace')}, which is no time"
    return row


def row_of(queue: str, found: StoredSchedule) -> dict[str, Any]:
    """Make the row of a schedule."""
    entry, state = found.entry, found.state
    message = entry.task()
    return {
        "id": entry.id,
        "queue": queue,
        "type": message.type,
        "spec": entry.spec,
        "tz": entry.tz,
        "next_at": next_at(found),
        "prev_at": prev_at(found),
        "paused": state.is_paused,
        "runs": state.runs,
        "last_task_id": state.last,
        "arguments": entry.text or payload_text(message.payload),
        "missed": entry.missed,
        "overlap": entry.overlap,
        "jitter": entry.jitter_ms / 1000,
        "start": moment(entry.start_ms or None),
        "until": moment(entry.until_ms or None),
        "max_runs": entry.max_runs or None,
        "owner": entry.owner or None,
        "created_at": moment(entry.created_ms),
        "fault": None,
    }


def next_at(found: StoredSchedule) -> datetime | None:
    """Return when the schedule runs next, with its jitter; None for never."""
    return None if found.due_ms is None else moment(found.entry.fire_ms(found.due_ms))


def prev_at(found: StoredSchedule) -> datetime | None:
    """Return the due time of the last run, or None."""
    return moment(found.state.prev_ms)


def time_until(at: datetime | None, session: Session) -> str:
    """Return how long it is until the next run, in words."""
    if at is None:
        return "never again"
    seconds = (to_ms(at) - session.clock.now_ms()) / 1000
    return f"next in {format_duration(seconds)}" if seconds > 0 else "due"
