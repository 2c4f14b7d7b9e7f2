"""States, numbers, durations and times in words, alike in every view. Pure functions.

Colours of the page are JupyterLab's own variables, with fall-back values for pages that lack them.
Those of states are alike on cards, in the panel and in pictures. They are for borders, glyphs and
bars; words keep the font's colour, which is readable in every theme.
"""

from __future__ import annotations

from datetime import tzinfo
from typing import Final, NamedTuple

from nbqueue.clock import from_ms
from nbqueue.durations import format_duration
from nbqueue.errors import CANCELLED, TaskCancelled
from nbqueue.sizes import format_size
from nbqueue.wire import states


class Badge(NamedTuple):
    """The mark of a state: a glyph and a colour, shown with its word."""

    glyph: str
    colour: str


INK: Final = "var(--jp-ui-font-color1, #212121)"
PALE_INK: Final = "var(--jp-ui-font-color2, #5f6368)"
CARD: Final = "var(--jp-layout-color1, #ffffff)"
SHADE: Final = "var(--jp-layout-color2, #f2f3f4)"
LINE: Final = "var(--jp-border-color2, #d0d4d8)"
BAD: Final = "var(--jp-error-color1, #c62828)"
BUSY: Final = "var(--jp-brand-color1, #1565c0)"

# The colours of Okabe and Ito, which everyone can tell apart, in every theme and in pictures.
_GREEN: Final = "#009E73"
_RED: Final = "#D55E00"
_AMBER: Final = "#CC8400"
_BLUE: Final = "#0072B2"
_PINK: Final = "#CC79A7"
_SKY: Final = "#56B4E9"
_GREY: Final = "#80868B"

CANCELLED_TASK: Final = f"{states.ARCHIVED} (cancelled)"
"""How the state of a cancelled task is shown: Asynq archives it."""

BADGES: Final = {
    states.PENDING: Badge("○", _GREY),
    states.SCHEDULED: Badge("◷", _GREY),
    states.ACTIVE: Badge("▶", _BLUE),
    states.RETRY: Badge("↻", _AMBER),
    states.ARCHIVED: Badge("✗", _RED),
    states.COMPLETED: Badge("✓", _GREEN),
    states.AGGREGATING: Badge("∑", _GREY),
    "waiting": Badge("⋯", _GREY),
    "cancelled": Badge("⊘", _AMBER),
    CANCELLED_TASK: Badge("⊘", _AMBER),
    "deleted": Badge("−", _GREY),
    "gone": Badge("−", _GREY),
    "paused": Badge("‖", _AMBER),
    "no worker": Badge("!", _AMBER),
    "lost": Badge("†", _PINK),
    "interrupted": Badge("↺", _SKY),
    "running": Badge("▶", _BLUE),
    "starting": Badge("○", _GREY),
    "stopping": Badge("◼", _AMBER),
    "ended": Badge("✓", _GREY),
    "failed": Badge("✗", _RED),
    "connected": Badge("●", _GREEN),
    "closed": Badge("○", _GREY),
}
"""The one table of states: of tasks, attempts, queues, workers, schedules and connections.

A state of a task is called as in Asynq. *failed* is the sum of retry and archived.
"""

_UNKNOWN: Final = Badge("?", _GREY)


_WORKER_STATES: Final = {
    "new": "starting",
    "active": "running",
    "stopped": "paused",
    "closed": "stopping",
}


def worker_state(status: str) -> str:
    """Return the state of a worker, from the word that Asynq stores for it."""
    return _WORKER_STATES.get(status, status)


def badge(state: str) -> Badge:
    """Return the mark of a state. An unknown state gets a question mark."""
    return BADGES.get(state, _UNKNOWN)


def task_state(state: str, error: str | None) -> str:
    """Return the state of a task as it is shown, by the text of its last error."""
    is_cancelled = error is not None and error.startswith((CANCELLED, TaskCancelled.__name__))
    return CANCELLED_TASK if is_cancelled and state == states.ARCHIVED else state


def badge_text(state: str) -> str:
    """Return a state as glyph and word."""
    return f"{badge(state).glyph} {state}"


def number(value: int) -> str:
    """Return an integer with a comma for each thousand."""
    return f"{value:,}"


def count(value: int, noun: str) -> str:
    """Return a number with its noun: ``"1 task"``, ``"2,000 tasks"``."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


size = format_size


def share(fraction: float) -> str:
    """Return a fraction as a percentage: ``"25%"``."""
    return f"{100 * fraction:.0f}%"


def rate(per_second: float) -> str:
    """Return a rate in the unit that suits it: ``"12/s"``, ``"3.2/min"``, ``"4.0/h"``."""
    for factor, unit in ((1.0, "s"), (60.0, "min"), (3600.0, "h")):
        value = per_second * factor
        if value >= 1 or unit == "h":
            return f"{value:,.0f}/{unit}" if value >= 10 else f"{value:.1f}/{unit}"
    raise AssertionError


def span(seconds: float | None) -> str:
    """Return a duration in words; a dash for None."""
    if seconds is None:
        return "–"
    # Times are in milliseconds: less than one is not known more exactly.
    return format_duration(seconds) if seconds else "0s"


def zoned_time(
    unix_ms: int, tz: tzinfo | None = None, *, now_ms: int | None = None, offset: bool = False
) -> str:
    """Return a moment with the name of its zone: ``"2026-07-01 06:00:00 CEST"``.

    Without ``tz`` in local time. Without the date if ``now_ms`` is on the same day. With
    ``offset``, that of the zone follows: ``"(+0200)"``. This is how all times are shown.
    """
    moment = from_ms(unix_ms).astimezone(tz)
    is_today = now_ms is not None and moment.date() == from_ms(now_ms).astimezone(tz).date()
    name = moment.tzname() or f"{moment:%z}"
    # Many zones have no abbreviation, and numbers in its place.
    zone = f"UTC{name}" if name[0] in "+-" else name
    shown = f"{moment:%H:%M:%S}" if is_today else f"{moment:%Y-%m-%d %H:%M:%S}"
    return f"{shown} {zone} ({moment:%z})" if offset else f"{shown} {zone}"


def ago(seconds: float) -> str:
    """Return ``"5s ago"``, or ``"in 5s"`` for a negative number of seconds."""
    return f"in {format_duration(-seconds)}" if seconds < 0 else f"{format_duration(seconds)} ago"


def due(due_ms: int, now_ms: int) -> str:
    """Return when a task is due: ``"in 2h 05m, at 2026-07-01 06:00:00 CEST"``; or ``"now"``."""
    left = due_ms - now_ms
    if left <= 0:
        return "now"
    return f"{ago(-left / 1000)}, at {zoned_time(due_ms, now_ms=now_ms)}"


def shortened(text: str, most: int = 80) -> str:
    """Return ``text`` as one line of at most ``most`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
