"""How states, numbers, durations and times are written, the same in every view. Pure.

Colours are JupyterLab's own variables, with fall-back values for pages that lack them. They are
used for borders, glyphs and bars; words keep the font's colour, which can be read in any theme.
"""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Final, NamedTuple

from nbqueue.clock import from_ms
from nbqueue.durations import format_duration
from nbqueue.printable import escape
from nbqueue.sizes import format_size
from nbqueue.wire import states


class Badge(NamedTuple):
    """How a state is marked: three ways at once, so that no eye depends on one of them."""

    glyph: str
    colour: str


INK: Final = "var(--jp-ui-font-color1, #212121)"
PALE_INK: Final = "var(--jp-ui-font-color2, #5f6368)"
CARD: Final = "var(--jp-layout-color1, #ffffff)"
SHADE: Final = "var(--jp-layout-color2, #f2f3f4)"
LINE: Final = "var(--jp-border-color2, #d0d4d8)"
GOOD: Final = "var(--jp-success-color1, #2e7d32)"
BAD: Final = "var(--jp-error-color1, #c62828)"
WARN: Final = "var(--jp-warn-color1, #b26a00)"
BUSY: Final = "var(--jp-brand-color1, #1565c0)"
STILL: Final = "var(--jp-ui-font-color3, #80868b)"

BADGES: Final = {
    states.PENDING: Badge("○", STILL),
    states.SCHEDULED: Badge("◷", STILL),
    states.ACTIVE: Badge("▶", BUSY),
    states.RETRY: Badge("↻", WARN),
    states.ARCHIVED: Badge("✗", BAD),
    states.COMPLETED: Badge("✓", GOOD),
    states.AGGREGATING: Badge("∑", STILL),
    "waiting": Badge("⋯", STILL),
    "cancelled": Badge("⊘", WARN),
    "deleted": Badge("−", STILL),
    "paused": Badge("‖", WARN),
    "lost": Badge("†", BAD),
    "interrupted": Badge("↺", WARN),
    "running": Badge("▶", BUSY),
    "stopping": Badge("◼", WARN),
    "ended": Badge("✓", STILL),
    "failed": Badge("✗", BAD),
    "connected": Badge("●", GOOD),
    "closed": Badge("○", STILL),
}
_UNKNOWN: Final = Badge("?", STILL)


def badge(state: str) -> Badge:
    """How ``state`` is marked; a word that nobody knows gets a question mark."""
    return BADGES.get(state, _UNKNOWN)


def badge_html(state: str) -> str:
    """A state as glyph, word and coloured border."""
    glyph, colour = badge(state)
    return (
        f'<span style="display:inline-block;border:1px solid {colour};border-radius:9px;'
        f'padding:0 8px;line-height:1.5;white-space:nowrap;color:{INK}">'
        f'<span aria-hidden="true" style="color:{colour}">{glyph}</span> {escape(state)}</span>'
    )


def badge_text(state: str) -> str:
    """A state as glyph and word."""
    return f"{badge(state).glyph} {state}"


def number(value: int) -> str:
    """A whole number with a comma for each thousand."""
    return f"{value:,}"


def count(value: int, what: str) -> str:
    """So many of something: ``"1 task"``, ``"2,000 tasks"``."""
    return f"{value:,} {what}{'' if value == 1 else 's'}"


size = format_size


def rate(per_second: float) -> str:
    """How many a second, or a minute, or an hour: ``"12/s"``, ``"3.2/min"``."""
    for factor, unit in ((1.0, "s"), (60.0, "min"), (3600.0, "h")):
        value = per_second * factor
        if value >= 1 or unit == "h":
            return f"{value:,.0f}/{unit}" if value >= 10 else f"{value:.1f}/{unit}"
    raise AssertionError


def span(seconds: float | None) -> str:
    """A duration, or a dash for one that nobody knows."""
    if seconds is None:
        return "–"
    # What began and ended within the same millisecond took no microseconds that anybody knows of.
    return format_duration(seconds) if seconds else "0s"


def _local(unix_ms: int, tz: tzinfo | None = None) -> datetime:
    return from_ms(unix_ms).astimezone(tz)


def clock_time(unix_ms: int, now_ms: int | None = None) -> str:
    """A moment in local time: the time of day, after the day if that is not today's."""
    moment = _local(unix_ms)
    if now_ms is not None and moment.date() == _local(now_ms).date():
        return f"{moment:%H:%M:%S}"
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def zoned_time(unix_ms: int, tz: tzinfo | None = None) -> str:
    """A moment with its zone, in full, as a tooltip says it. In local time without ``tz``."""
    moment = _local(unix_ms, tz)
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname() or ''} ({moment:%z})".rstrip()


def short_zoned_time(moment: datetime, tz: tzinfo | None) -> str:
    """A moment with the abbreviation of its zone: ``"2026-07-01 06:00:00 CEST"``.

    In local time without ``tz``.
    """
    moment = moment.astimezone(tz)
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname() or ''}".rstrip()


def time_html(unix_ms: int | None, now_ms: int | None = None, *, shown: str | None = None) -> str:
    """A moment in local time, or as ``shown`` says it; a dash for none.

    Its tooltip has the day and the zone, in local time.
    """
    if unix_ms is None:
        return "–"
    return (
        f'<time datetime="{from_ms(unix_ms).isoformat()}" title="{escape(zoned_time(unix_ms))}">'
        f"{clock_time(unix_ms, now_ms) if shown is None else escape(shown)}</time>"
    )


def ago(seconds: float) -> str:
    """How long ago, or in how long."""
    return f"in {format_duration(-seconds)}" if seconds < 0 else f"{format_duration(seconds)} ago"


def shortened(text: str, most: int = 80) -> str:
    """One line of ``text``, cut in the middle of nothing but at the end, with a sign for it."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
