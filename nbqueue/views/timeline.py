"""A picture of who ran what, and when: one bar for each attempt, coloured by how it ended.

Made of a handful of polygon collections whatever the number of attempts, because an artist per
bar takes seconds where this takes a tenth of one. It uses no global state of matplotlib and needs
no display.
"""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

from nbqueue.durations import format_duration
from nbqueue.errors import NbqueueError, UsageError
from nbqueue.views.lanes import Lanes, lanes_by_task, lanes_by_worker

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class PlotMissing(NbqueueError, ImportError):
    """A picture needs matplotlib, which is not installed here."""


@dataclass(frozen=True)
class _Style:
    """How one outcome looks: colours of Okabe and Ito, which everyone can tell apart, and a hatch
    for those who see no colours. The paler ones never mean a success."""

    colour: str
    hatch: str = ""
    edge: str = "none"


_STYLES: Final = {
    "completed": _Style("#0072B2"),
    "retry": _Style("#E69F00", "////", "#5c3f00"),
    "archived": _Style("#D55E00", "xxxx", "#5a2500"),
    "lost": _Style("#CC79A7", "\\\\\\\\", "#4a1a35"),
    "interrupted": _Style("#56B4E9", "....", "#0b3a54"),
}
_UNKNOWN: Final = _Style("#999999", "++", "#333333")
_WAITING: Final = "#b9b9b9"
_INK, _GRID, _CARD = "#333333", "#e3e3e3", "white"

_WIDTH = 9.0
_LANE, _LEAST, _MOST = 0.30, 1.0, 7.5
"""Inches: the width of a picture, the height of a lane, and the bounds of the height of all."""

_BAR = 0.78
"""The height of a bar, of that of its lane."""

_PLOT_PIXELS = 780
_LANE_PIXELS = 750
"""About how many pixels there are on a screen along the time axis, and across lanes, at most."""

_HATCHED = 6
"""The least width of a bar, in pixels, in which a hatch can be seen rather than hides it."""


def timeline(
    frame: pd.DataFrame,
    *,
    by: Literal["worker", "task"] = "worker",
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """Return a picture of the attempts in ``frame``, which is one of ``Client.attempts()``.

    ``by="worker"`` has a lane for each thing that a worker runs at once, ``by="task"`` one for
    each task, with all of its attempts. A thin grey line before a bar is the time for which the
    task was pending. The time axis counts seconds or minutes from the first start, or, for
    longer runs, shows local time; its label says which, and in which zone. ``ax`` draws into
    axes of your own and returns their figure.

    The figure shows itself in a notebook, with a text for screen readers, and
    ``.savefig("run.png")`` saves it. Raises `PlotMissing` if matplotlib is not installed.
    """
    if by not in ("worker", "task"):
        raise UsageError(f"by={by!r} must be 'worker' or 'task'")
    missing = {"started_at", "finished_at", "outcome", "worker", "task_id"} - set(frame.columns)
    if missing:
        raise UsageError(
            f"this frame has no column {', '.join(sorted(missing))}: pass one of q.attempts()"
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise PlotMissing(
            'a timeline needs matplotlib, which is not installed: pip install "nbqueue[plot]"'
        ) from error
    known = frame.dropna(subset=["started_at", "finished_at"])
    lanes = lanes_by_worker(known) if by == "worker" else lanes_by_task(known)
    told = _summary(known)
    if ax is not None:
        figure: Figure = ax.figure  # type: ignore[assignment]
    else:
        height = min(max(_LANE * lanes.count, _LEAST), _MOST) + 1.25
        figure = _figure_class()(figsize=(_WIDTH, height), facecolor=_CARD, layout="constrained")
        figure.told = told  # type: ignore[attr-defined]
        ax = figure.add_subplot()
    ax.set_title(title if title is not None else told, loc="left", fontsize=10.5, color=_INK)
    _draw(ax, known, lanes)
    return figure


def _draw(ax: Axes, frame: pd.DataFrame, lanes: Lanes) -> None:
    axis = _TimeAxis(frame)
    starts, ends = axis.values(frame["started_at"]), axis.values(frame["finished_at"])
    left, right = axis.limits(starts, ends)
    pixel = (right - left) / _PLOT_PIXELS
    _draw_waits(ax, frame, starts, lanes, left, axis.unit_seconds)
    outcomes = frame["outcome"].astype("string").fillna("unknown")
    counts = outcomes.value_counts()
    # The common outcome lies below, so that the one failure among 10,000 is not painted over.
    present = [*_STYLES, *sorted(set(counts.index) - set(_STYLES))]
    for level, name in enumerate(n for n in present if counts.get(n, 0)):
        chosen = (outcomes == name).to_numpy()
        least = pixel * (0.5 if name == "completed" else 3)
        corners = _corners(
            starts[chosen], ends[chosen], lanes.of_row[chosen], pixel, least, lanes.count
        )
        wide = ends[chosen] - starts[chosen] >= _HATCHED * pixel
        style, label = _STYLES.get(name, _UNKNOWN), f"{name} ({counts[name]:,})"
        _add_bars(ax, corners[wide], style, label, level)
        _add_bars(ax, corners[~wide], _Style(style.colour), None, level)
    ax.set_xlim(left, right)
    axis.label(ax)
    lanes.label(ax)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color("#8a8a8a")
    ax.set_facecolor(_CARD)
    ax.grid(axis="x", color=_GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, labelsize=9, colors=_INK, labelcolor=_INK)
    if len(frame):
        figure: Any = ax.figure
        legend = figure.legend(
            *ax.get_legend_handles_labels(),
            loc="outside lower left",
            ncols=6,
            frameon=False,
            fontsize=9,
            labelcolor=_INK,
            handlelength=1.6,
            handleheight=0.9,
            columnspacing=1.6,
        )
        for handle, words in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if words.get_text() == "waiting":
                handle.set_linewidth(1.1)  # however thin the lines are drawn
    else:
        ax.text(0.5, 0.5, "no attempts", transform=ax.transAxes, ha="center", color=_INK)


def _draw_waits(
    ax: Axes, frame: pd.DataFrame, starts: Any, lanes: Lanes, left: float, unit: float
) -> None:
    import numpy as np
    from matplotlib.collections import LineCollection

    if "waited" not in frame or not len(frame):
        return
    waited = frame["waited"].dt.total_seconds().to_numpy() / unit
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
    """The four corners of each bar, ``(n, 4, 2)``.

    A bar that is wide enough gives up its last pixel, which separates it from the next; one that
    is too narrow to be seen gets the ``least`` width.
    """
    import numpy as np

    right = np.where(ends - starts > 5 * pixel, ends - pixel, ends)
    right = np.maximum(right, starts + least)
    half = max(_BAR, 2 * lane_count / _LANE_PIXELS) / 2
    low, high = at - half, at + half
    corners = np.stack([starts, low, starts, high, right, high, right, low], axis=1)
    return corners.reshape(-1, 4, 2)


def _add_bars(ax: Axes, corners: Any, style: _Style, label: str | None, level: int) -> None:
    from matplotlib.collections import PolyCollection

    ax.add_collection(
        PolyCollection(
            corners,
            facecolors=style.colour,
            edgecolors=style.edge,
            linewidths=0,
            hatch=style.hatch or None,
            zorder=3 + level / 10,
            label=label,
        ),
        autolim=False,
    )


class _TimeAxis:
    """Seconds or minutes since the first start; local time for what took longer than an hour."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.clock = False
        self.unit_seconds, self.unit = 1.0, "seconds"
        self.first: pd.Timestamp | None = None
        if not len(frame):
            return
        self.first = frame["started_at"].min()
        span = (frame["finished_at"].max() - self.first).total_seconds()
        if span > 3600:
            self.clock, self.unit_seconds = True, 86_400.0  # matplotlib counts days
        elif span > 300:
            self.unit_seconds, self.unit = 60.0, "minutes"

    def values(self, instants: pd.Series) -> Any:
        """The instants as ``float64`` on this axis."""
        import numpy as np

        if self.first is None:
            return np.zeros(0)
        elapsed = (instants - self.first).dt.total_seconds().to_numpy() / self.unit_seconds
        if self.clock:
            from matplotlib.dates import date2num

            return elapsed + date2num(self.first.to_pydatetime())
        return elapsed

    def limits(self, starts: Any, ends: Any) -> tuple[float, float]:
        if not len(starts):
            return 0.0, 1.0
        left, right = float(starts.min()), float(ends.max())
        width = max(right - left, 1e-3)
        return left - width * 0.01, left + width * 1.01

    def label(self, ax: Axes) -> None:
        if self.first is None:
            ax.set_xticks([])
            return
        local = self.first.to_pydatetime().astimezone()
        zone = local.tzname() or "local time"
        if self.clock:
            from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

            locator = AutoDateLocator(tz=local.tzinfo, maxticks=9)
            ax.xaxis.set_major_locator(locator)
            ax.xaxis.set_major_formatter(
                ConciseDateFormatter(locator, tz=local.tzinfo, show_offset=False)
            )
            text = f"local time ({zone}), from {local:%Y-%m-%d}"
        else:
            text = f"{self.unit} since {local:%Y-%m-%d %H:%M:%S} {zone}"
        ax.set_xlabel(text, fontsize=9, color=_INK)


def _summary(frame: pd.DataFrame) -> str:
    if not len(frame):
        return "No attempts"
    span = (frame["finished_at"].max() - frame["started_at"].min()).total_seconds()
    tasks, workers = frame["task_id"].nunique(), frame["worker"].nunique()
    return (
        f"{_count(len(frame), 'attempt')} at {_count(tasks, 'task')} "
        f"by {_count(workers, 'worker')} in {format_duration(span)}"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


@cache
def _figure_class() -> type[Figure]:
    """The class of our figures: a figure of no pyplot that shows itself in a notebook."""
    from matplotlib.figure import Figure

    class TimelineFigure(Figure):
        told = "A timeline"

        def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
            # Twice the pixels, shown at their half, are sharp on today's screens. The HTML has
            # what a bare PNG cannot have in a notebook: a text for those who do not see it.
            picture = io.BytesIO()
            self.savefig(picture, format="png", dpi=200)
            data = base64.b64encode(picture.getvalue()).decode("ascii")
            width = round(self.get_figwidth() * 100)
            alt = html.escape(f"Timeline: {self.told}")
            image = (
                f'<img alt="{alt}" width="{width}" style="max-width: 100%; height: auto" '
                f'src="data:image/png;base64,{data}">'
            )
            size = {"width": width, "height": round(self.get_figheight() * 100)}
            return (
                {"text/plain": repr(self), "text/html": image, "image/png": data},
                {"image/png": size},
            )

        def __repr__(self) -> str:
            return f"<Timeline: {self.told}>"

    return TimelineFigure
