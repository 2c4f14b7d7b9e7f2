"""How the handle of a schedule shows itself: as text, and as a card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbqueue.client.schedules.entries import find
from nbqueue.client.schedules.rows import row_of, time_until
from nbqueue.errors import StoreDamaged
from nbqueue.printable import visible

if TYPE_CHECKING:
    from nbqueue.client.session import Session


class ScheduleForms:
    """What `Schedule` shows of itself, as it is in the store at that moment."""

    _session: Session
    _queue: str
    _id: str

    def __repr__(self) -> str:
        row = self._row()
        if row is None:
            return visible(f"<Schedule {self._id!r} queue={self._queue}>")
        said = "paused" if row["paused"] else time_until(row["next_at"], self._session)
        zone = "" if row["tz"] == "UTC" else f" ({row['tz']})"
        return visible(f"<Schedule {self._id!r} {row['spec']!r}{zone} {row['type']} {said}>")

    def _repr_html_(self) -> str | None:
        from nbqueue.views.static_cards import schedule_card

        row = self._row()
        return None if row is None else schedule_card(row)

    def _row(self) -> dict[str, Any] | None:
        """None if it was removed, or nobody can be asked."""
        try:
            found = find(self._session, self._queue, self._id) if self._session.is_open else None
        except StoreDamaged:
            return None
        return None if found is None else row_of(self._queue, found)
