"""Plot of attempts by worker and time: one bar for each attempt, coloured by outcome.

A few polygon collections hold all bars: an artist for each bar would be ten times slower. The plot
uses no global state of matplotlib and needs no display.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from nbqueue.durations import format_duration
from nbqueue.errors import PlotMissing, UsageError
from nbqueue.names import not_among
from nbqueue.views.format import count
from nbqueue.views.plots.figures import (
    INK,
    STYLES,
    UNKNOWN,
    Style,
    TimeAxis,
    add_legend,
    check_matplotlib,
    dress,
    label,
    new_figure,
)
from nbqueue.views.plots.lanes import Lanes, lanes_by_task, lanes_by_worker

__all__ = ["PlotMissing", "timeline"]

from nbqueue.views.frames.columns import seconds_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_WAITING: Final = "#b9b9b9"
_LANE, _LEAST, _MOST = 0.30, 1.0, 7.5
"""Inches: the height of a lane, and the bounds of the height of all lanes."""

_BAR = 0.78
"""The height of a bar, as a fraction of its lane."""

_PLOT_PIXELS = 780
_LANE_PIXELS = 750
"""About the greatest number of pixels along the time axis, and across the lanes."""

_HATCHED = 6
"""The least width of a hatched bar, in pixels.

A narrower bar would be hidden by the hatch.
"""


def timeline(
    frame: pd.DataFrame,
    *,
    by: Literal["worker", "task"] = "worker",
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """Plot the attempts in ``frame``, which is a frame of ``Client.attempts()``.

    ``by="worker"`` has a lane for each slot of a worker, ``by="task"`` one for each task, with all
    its attempts. A thin grey line before a bar is the time for which the task was pending. The time
    axis counts seconds or minutes from the first start, or, for longer runs, shows local time; its
    label names the unit and the zone. ``ax`` draws into your axes and returns their figure.

    A notebook displays the figure, with a text for screen readers, and ``.savefig("run.png")``
    saves it. Raises `PlotMissing` if matplotlib is not installed.
    """
    if by not in ("worker", "task"):
        raise not_among("by", by, ("worker", "task"))
    missing = {"started_at", "finished_at", "outcome", "worker", "task_id"} - set(frame.columns)
    if missing:
        raise UsageError(
            f"this frame has no column {', '.join(sorted(missing))}: "
            'pass one of q.attempts(columns="all")'
        )
    check_matplotlib("a timeline")
    known = frame.dropna(subset=["started_at", "finished_at"])
    lanes = lanes_by_worker(known) if by == "worker" else lanes_by_task(known)
    summary = _summary(known)
    if ax is not None:
        figure: Figure = ax.figure  # type: ignore[assignment]
    else:
        height = min(max(_LANE * lanes.count, _LEAST), _MOST) + 1.25
        figure = new_figure("Timeline", summary, height)
        ax = figure.add_subplot()
    ax.set_title(title if title is not None else summary, loc="left", fontsize=10.5, color=INK)
    _draw(ax, known, lanes)
    return figure


def _draw(ax: Axes, frame: pd.DataFrame, lanes: Lanes) -> None:
    axis = TimeAxis(frame)
    starts, ends = axis.values(frame["started_at"]), axis.values(frame["finished_at"])
    left, right = axis.limits(starts, ends)
    pixel = (right - left) / _PLOT_PIXELS
    _draw_waits(ax, frame, starts, lanes, left, axis.unit_seconds)
    outcomes = frame["outcome"].astype("string").fillna("unknown")
    counts = outcomes.value_counts()
    # The common outcome is drawn first, so that one failure among 10,000 stays visible.
    present = [*STYLES, *sorted(set(counts.index) - set(STYLES))]
    for level, name in enumerate(n for n in present if counts.get(n, 0)):
        chosen = (outcomes == name).to_numpy()
        least = pixel * (0.5 if name == "completed" else _least(counts[name], lanes.count))
        corners = _corners(
            starts[chosen], ends[chosen], lanes.of_row[chosen], pixel, least, lanes.count
        )
        wide = ends[chosen] - starts[chosen] >= _HATCHED * pixel
        style = STYLES.get(name, UNKNOWN)
        _add_bars(ax, corners[wide], style, f"{label(name)} ({counts[name]:,})", level)
        _add_bars(ax, corners[~wide], Style(style.colour), None, level)
    ax.set_xlim(left, right)
    axis.label(ax)
    lanes.label(ax)
    dress(ax)
    if len(frame):
        legend = add_legend(ax)
        for handle, words in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if words.get_text() == "waiting":
                handle.set_linewidth(1.1)  # however thin the lines are drawn
    else:
        ax.text(0.5, 0.5, "no attempts", transform=ax.transAxes, ha="center", color=INK)


def _least(number: int, lane_count: int) -> float:
    """Return the least width, in pixels, of bars that are no success.

    A few are wide enough to be found; many must not seem to be more than they are.
    """
    room = 0.05 * _PLOT_PIXELS * min(lane_count, _LANE_PIXELS) / number
    return float(min(3.0, max(0.8, room)))


def _draw_waits(
    ax: Axes, frame: pd.DataFrame, starts: Any, lanes: Lanes, left: float, unit: float
) -> None:
    import numpy as np
    from matplotlib.collections import LineCollection

    if "waited" not in frame or not len(frame):
        return
    waited = seconds_of(frame["waited"]).to_numpy() / unit
    known = waited > 0
    if not known.any():
        return
    begin = np.maximum(starts[known] - waited[known], left)
    at = lanes.of_row[known].astype(float)
    segments: Any = np.stack([np.stack([begin, at], 1), np.stack([starts[known], at], 1)], 1)
    ax.add_collection(
        LineCollection(
            segments,
            colors=_WAITING,
            linewidths=min(1.1, 200 / max(lanes.count, 1)),
            zorder=2,
            label="waiting",
        ),
        autolim=False,
    )


def _corners(starts: Any, ends: Any, at: Any, pixel: float, least: float, lane_count: int) -> Any:
    """Return the four corners of each bar, ``(n, 4, 2)``.

    A wide bar loses its last pixel, which separates it from the next one. A bar that is too narrow
    to be seen gets the ``least`` width.
    """
    import numpy as np

    right = np.where(ends - starts > 5 * pixel, ends - pixel, ends)
    right = np.maximum(right, starts + least)
    half = max(_BAR, 2 * lane_count / _LANE_PIXELS) / 2
    low, high = at - half, at + half
    corners = np.stack([starts, low, starts, high, right, high, right, low], axis=1)
    return corners.reshape(-1, 4, 2)


def _add_bars(ax: Axes, corners: Any, style: Style, entry: str | None, level: int) -> None:
    from matplotlib.collections import PolyCollection

    ax.add_collection(
        PolyCollection(
            corners,
            facecolors=style.colour,
            edgecolors=style.edge,
            linewidths=0,
            hatch=style.hatch or None,
            zorder=3 + level / 10,
            label=entry,
        ),
        autolim=False,
    )


def _summary(frame: pd.DataFrame) -> str:
    if not len(frame):
        return "No attempts"
    span = (frame["finished_at"].max() - frame["started_at"].min()).total_seconds()
    tasks, workers = frame["task_id"].nunique(), frame["worker"].nunique()
    return (
        f"{count(len(frame), 'attempt')} at {count(tasks, 'task')} "
        f"by {count(workers, 'worker')} in {format_duration(span)}"
    )
