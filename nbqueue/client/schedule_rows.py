"""Schedules as rows, for lists and frames."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from nbqueue.client.schedule_entries import Found, payload_text
from nbqueue.clock import from_ms, to_ms
from nbqueue.durations import format_duration

if TYPE_CHECKING:
    from nbqueue.client.session import Session


def row_of(queue: str, found: Found) -> dict[str, Any]:
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
        "start": from_ms(entry.start_ms) if entry.start_ms else None,
        "until": from_ms(entry.until_ms) if entry.until_ms else None,
        "max_runs": entry.max_runs or None,
        "owner": entry.owner or None,
        "created_at": from_ms(entry.created_ms),
    }


def next_at(found: Found) -> datetime | None:
    return None if found.due_ms is None else from_ms(found.entry.fire_ms(found.due_ms))


def prev_at(found: Found) -> datetime | None:
    return None if found.state.prev_ms is None else from_ms(found.state.prev_ms)


def time_until(moment: datetime | None, session: Session) -> str:
    if moment is None:
        return "never again"
    seconds = (to_ms(moment) - session.clock.now_ms()) / 1000
    return f"next in {format_duration(seconds)}" if seconds > 0 else "due"
