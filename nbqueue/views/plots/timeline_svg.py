"""A timeline of attempts as SVG, drawn in milliseconds and without matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from markupsafe import Markup

from nbqueue.clock import from_ms
from nbqueue.views import format as fmt
from nbqueue.views.format import LINE, PALE_INK
from nbqueue.views.html import FONT, element
from nbqueue.views.plots.lanes import pack, worker_names

_WIDTH: Final = 1000
"""The width of the bars in the units of their picture, which is stretched to the page's."""

_MOST_HEIGHT: Final = 420
_LANE: Final = 18.0
_MOST_NAMES: Final = 30
_TICKS: Final = 5
_NAME_LENGTH: Final = 18
_STEPS: Final = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600,
    43_200, 86_400,
)  # fmt: skip
_LEAST_FAILURE: Final = 2.0
"""The least width, in pixels, of an attempt that did not complete, so that it can be found."""


class Attempt(Protocol):
    """An attempt that ended. Times are in Unix milliseconds."""

    @property
    def worker(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def started_ms(self) -> int: ...
    @property
    def finished_ms(self) -> int: ...


class _Lanes(NamedTuple):
    of_attempt: list[int]
    number: int
    names: list[tuple[float, str]]
    """Names of workers, each at the middle of its lanes."""


def timeline_svg(attempts: Sequence[Attempt], *, label: str) -> Markup:
    """Return a picture with a lane for each slot of a worker, and a bar for each attempt.

    Attempts of one outcome that touch in a lane are one bar, so that the picture stays small
    however many there are. The axis is local time, and its label names the zone. ``label``
    describes the picture to a screen reader. Bars are stretched to the width of the page, words
    are not.
    """
    attempts = sorted(attempts, key=lambda each: each.started_ms)
    lanes = _lanes(attempts)
    lane = min(_LANE, _MOST_HEIGHT / max(lanes.number, 1))
    height = lane * max(lanes.number, 1)
    left = min((each.started_ms for each in attempts), default=0)
    span = max(1, max((each.finished_ms for each in attempts), default=1) - left)
    ticks = _ticks(left, span)
    lines = [
        element("path", d=f"M{_WIDTH * at:.1f} 0V{height:.0f}", stroke=LINE,
                vector_effect="non-scaling-stroke")
        for at, _ in ticks
    ]  # fmt: skip
    picture = element(
        "svg",
        *lines,
        *_bars(attempts, lanes.of_attempt, left, _WIDTH / span, lane),
        viewBox=f"0 0 {_WIDTH} {height:.0f}",
        preserveAspectRatio="none",
        style=f"display:block;width:100%;height:{height:.0f}px",
    )
    # The first one does not reach into the name of the zone.
    words = [
        _word(f"left:max(26px,{100 * at:.1f}%);top:2px", text, moves="-50%,0") for at, text in ticks
    ]
    axis = element("div", *words, style="position:relative;height:20px")
    zone = f"{from_ms(left).astimezone():%Z}"
    names = element(
        "div",
        *_names(lanes, lane),
        _word(f"right:0;top:{height + 2:.0f}px", zone),
        style="position:relative;flex:0 0 130px",
    )
    bars = element("div", picture, axis, style="flex:1 1 auto;min-width:0")
    style = f"display:flex;gap:8px;margin:8px 12px 8px 0;font-family:{FONT};font-size:11px"
    return element("div", names, bars, role="img", aria_label=label, style=style)


def _lanes(attempts: Sequence[Attempt]) -> _Lanes:
    by_worker: dict[str, list[int]] = {}
    for i, each in enumerate(attempts):
        by_worker.setdefault(each.worker or "unknown worker", []).append(i)
    shown = worker_names(list(by_worker))
    first = min((each.started_ms for each in attempts), default=0)
    tolerance = (max((each.finished_ms for each in attempts), default=0) - first) // 1000
    lanes = _Lanes([0] * len(attempts), 0, [])
    count = 0
    for worker, rows in by_worker.items():
        starts = [attempts[i].started_ms for i in rows]
        packed = pack(starts, [attempts[i].finished_ms for i in rows], tolerance)
        for i, lane in zip(rows, packed, strict=True):
            lanes.of_attempt[i] = count + lane
        used = max(packed) + 1
        lanes.names.append((count + used / 2, shown[worker]))
        count += used
    return lanes._replace(number=count)


def _bars(
    attempts: Sequence[Attempt], lanes: Sequence[int], left: int, scale: float, lane: float
) -> list[Markup]:
    """Return a path for each outcome. The common outcome is drawn first: failures stay visible."""
    by_outcome: dict[str, dict[int, list[list[float]]]] = {}
    for each, number in zip(attempts, lanes, strict=True):
        is_good = each.outcome == "completed"
        begin = round((each.started_ms - left) * scale, 1)
        width = max(
            (each.finished_ms - each.started_ms) * scale, 0.5 if is_good else _LEAST_FAILURE
        )
        bars = by_outcome.setdefault(each.outcome, {}).setdefault(number, [])
        if bars and begin - bars[-1][1] < 0.5:
            bars[-1][1] = max(bars[-1][1], round(begin + width, 1))
        else:
            bars.append([begin, round(begin + width, 1)])
    found = []
    for outcome in sorted(by_outcome, key=lambda name: (name != "completed", name)):
        commands = [
            f"M{begin:g} {(number + 0.1) * lane:.1f}h{end - begin:.1f}"
            f"v{lane * 0.8:.1f}h-{end - begin:.1f}z"
            for number, bars in by_outcome[outcome].items()
            for begin, end in bars
        ]
        found.append(element("path", d="".join(commands), fill=fmt.badge(outcome).colour))
    return found


def _names(lanes: _Lanes, lane: float) -> list[Markup]:
    if len(lanes.names) > _MOST_NAMES:
        return []
    return [
        _word(
            f"right:0;top:{at * lane:.1f}px",
            fmt.shortened(name, _NAME_LENGTH),
            title=name,
            moves="0,-50%",
        )
        for at, name in lanes.names
    ]


def _word(place: str, text: str, *, title: str | None = None, moves: str = "0,0") -> Markup:
    style = (
        f"position:absolute;{place};transform:translate({moves});white-space:nowrap;"
        f"color:{PALE_INK}"
    )
    return element("span", text, title=title, style=style)


def _ticks(left: int, span: int) -> list[tuple[float, str]]:
    """Return round local times, each with its place on the axis from 0 to 1."""
    seconds = span / 1000
    step_ms = max(
        1, round(1000 * next((s for s in _STEPS if seconds / s <= _TICKS), seconds / _TICKS))
    )
    offset = from_ms(left).astimezone().utcoffset()
    offset_ms = round(offset.total_seconds() * 1000) if offset is not None else 0
    first = -(-(left + offset_ms) // step_ms) * step_ms - offset_ms
    return [((at - left) / span, _tick(at, step_ms)) for at in range(first, left + span, step_ms)]


def _tick(at_ms: int, step_ms: int) -> str:
    moment = from_ms(at_ms).astimezone()
    if step_ms >= 86_400_000:
        return f"{moment:%m-%d}"
    if step_ms >= 60_000:
        return f"{moment:%m-%d %H:%M}" if step_ms > 10_800_000 else f"{moment:%H:%M}"
    tenth = f".{moment.microsecond // 100_000}" if step_ms < 1000 else ""
    return f"{moment:%H:%M:%S}{tenth}"
