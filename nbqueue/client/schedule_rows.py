"""Schedules as rows, for lists and frames."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from nbqueue.client.schedule_entries import Found, find, payload_text
from nbqueue.clock import from_ms, to_ms
from nbqueue.durations import format_duration

if TYPE_CHECKING:
    from nbqueue.client.schedules import Schedule
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


def schedule_text(schedule: Schedule) -> str:
    """What the handle of a schedule is as text."""
    row = _row(schedule)
    if row is None:
        return f"<Schedule {schedule.id!r} queue={schedule.queue}>"
    said = "paused" if row["paused"] else time_until(row["next_at"], schedule._session)
    zone = "" if row["tz"] == "UTC" else f" ({row['tz']})"
    return f"<Schedule {schedule.id!r} {row['spec']!r}{zone} {row['type']} {said}>"


def schedule_html(schedule: Schedule) -> str | None:
    """Its card in a notebook; None, for the text, if there is no such schedule any more."""
    from nbqueue.views.cards import schedule_card

    row = _row(schedule)
    return None if row is None else schedule_card(row)


def _row(schedule: Schedule) -> dict[str, Any] | None:
    session = schedule._session
    found = find(session, schedule.queue, schedule.id) if session.is_open else None
    return None if found is None else row_of(schedule.queue, found)
