"""Pictures of attempts over time: how many ended, and how long tasks waited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nbqueue.durations import format_duration
from nbqueue.errors import UsageError
from nbqueue.views.plots.figures import (
    INK,
    STYLES,
    UNKNOWN,
    TimeAxis,
    add_legend,
    check_matplotlib,
    dress,
    new_figure,
    said,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STEPS: Final = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400,
)  # fmt: skip
_FEW, _FEW_BINS, _MOST_BINS = 100, 24, 60
_MOST_POINTS = 2000
_HEIGHT, _EMPTY_HEIGHT = 3.2, 1.4

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


@dataclass
class Bins:
    """Time cut into equal pieces of ``seconds`` each; ``of_row`` says in which each row lies."""

    seconds: float
    count: int
    of_row: Any
    edges: Any
    """On the axis; one more than there are bins."""


def cut(axis: TimeAxis, at: Any) -> Bins:
    """Cut the time from the first to the last of ``at``, values on ``axis``, into a few bins."""
    import numpy as np

    first, last = float(at.min()), float(at.max())
    whole = max((last - first) * axis.unit_seconds, 1e-3)
    most = _FEW_BINS if len(at) <= _FEW else _MOST_BINS
    step = next((s for s in _STEPS if whole / s <= most), whole / most)
    wide = step / axis.unit_seconds
    # The edges lie where their times are round ones, seen from the first start.
    begin = first - first % wide if not axis.clock else first
    count = max(1, int(np.ceil((last - begin) / wide + 1e-9)))
    of_row = np.minimum(((at - begin) / wide).astype("int64"), count - 1)
    return Bins(step, count, of_row, begin + wide * np.arange(count + 1))


def throughput(frame: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Return a picture of how many attempts in ``frame`` ended over time, by how they ended."""
    check_frame(frame, "throughput", {"started_at", "finished_at", "outcome"})
    known = frame.dropna(subset=["started_at", "finished_at"])
    told = _rate_words(known)
    figure, ax = begin("Throughput", told, ax, _height(known))
    if not len(known):
        return empty(figure, ax)
    axis = TimeAxis(known)
    ends = axis.values(known["finished_at"])
    bins = cut(axis, ends)
    draw_stacked(ax, bins, known["outcome"].astype("string").fillna("unknown"))
    finish(ax, axis, bins)
    ax.set_ylabel(f"attempts in {_each(bins.seconds)}", fontsize=9, color=INK)
    add_legend(ax)
    return figure


def draw_stacked(ax: Axes, bins: Bins, outcomes: pd.Series) -> None:
    """Bars for each bin, a colour and a hatch for each outcome, one on the other."""
    import numpy as np

    counts = outcomes.value_counts()
    base = np.zeros(bins.count)
    wide = bins.edges[1] - bins.edges[0]
    for name in (*STYLES, *sorted(set(counts.index) - set(STYLES))):
        if not counts.get(name, 0):
            continue
        style = STYLES.get(name, UNKNOWN)
        heights = np.bincount(bins.of_row[(outcomes == name).to_numpy()], minlength=bins.count)
        ax.bar(
            bins.edges[:-1], heights, width=wide * 0.9, align="edge", bottom=base, linewidth=0,
            color=style.colour, edgecolor=style.edge, hatch=style.hatch or None,
            label=f"{name} ({counts[name]:,})", zorder=3,
        )  # fmt: skip
        base += heights
    from matplotlib.ticker import MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.margins(y=0.06)


def latency(frame: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Return a picture of how long the tasks in ``frame`` were pending before they began.

    A point for each attempt (of many, a sample), the median and the 95th percentile over time.
    """
    check_frame(frame, "latency", {"started_at", "finished_at", "waited"})
    known = frame.dropna(subset=["started_at", "finished_at", "waited"])
    seconds = known["waited"].dt.total_seconds().to_numpy()
    told = "No attempts"
    if len(known):
        told = f"{said(len(known), 'attempt')} waited {_middle(seconds)}"
    figure, ax = begin("Latency", told, ax, _height(known))
    if not len(known):
        return empty(figure, ax)
    axis = TimeAxis(known)
    starts = axis.values(known["started_at"])
    bins = cut(axis, starts)
    import numpy as np

    shown = np.linspace(0, len(known) - 1, min(len(known), _MOST_POINTS)).astype("int64")
    is_few = len(shown) <= 100
    ax.scatter(
        starts[shown], np.maximum(seconds[shown], 5e-4), s=22 if is_few else 6, color=BLUE,
        alpha=0.75 if is_few else 0.3, linewidths=0, zorder=2,
        label="attempts" if len(shown) == len(known) else f"{len(shown):,} of the attempts",
    )  # fmt: skip
    if not is_few:
        _draw_percentiles(ax, bins, seconds)
    logarithmic(ax.yaxis, np.maximum(seconds, 5e-4))
    finish(ax, axis, bins)
    ax.set_ylabel("waited", fontsize=9, color=INK)
    if not is_few:
        add_legend(ax)
    return figure


def _draw_percentiles(ax: Axes, bins: Bins, seconds: Any) -> None:
    import numpy as np

    middles = (bins.edges[:-1] + bins.edges[1:]) / 2
    for part, colour, dash, label in (
        (50, INK, "solid", "median"), (95, ORANGE, (0, (4, 2)), "95 % waited less"),
    ):  # fmt: skip
        values = np.full(bins.count, np.nan)
        for number in np.unique(bins.of_row):
            values[number] = np.percentile(seconds[bins.of_row == number], part)
        ax.plot(
            middles, np.maximum(values, 5e-4), color=colour, linestyle=dash, linewidth=1.8,
            marker="o", markersize=3, label=label, zorder=4,
        )  # fmt: skip


# --- Shared by all pictures of attempts ----------------------------------------------------------


def check_frame(frame: pd.DataFrame, what: str, columns: set[str]) -> None:
    """Raises `UsageError` unless ``frame`` can be drawn, `PlotMissing` without matplotlib."""
    missing = columns - set(frame.columns)
    if missing:
        raise UsageError(
            f"this frame has no column {', '.join(sorted(missing))}: pass one of q.attempts()"
        )
    check_matplotlib(f"a picture of the {what}")


def begin(kind: str, told: str, ax: Axes | None, height: float = _HEIGHT) -> tuple[Figure, Any]:
    """The figure and the axes to draw into, with their title."""
    if ax is None:
        figure = new_figure(kind, told, height)
        ax = figure.add_subplot()
    ax.set_title(told, loc="left", fontsize=10.5, color=INK)
    drawn: Any = ax.figure
    return drawn, ax


def empty(figure: Figure, ax: Axes) -> Figure:
    """Say that there is nothing to see."""
    dress(ax)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.text(0.5, 0.5, "no attempts", transform=ax.transAxes, ha="center", color=INK)
    return figure


def finish(ax: Axes, axis: TimeAxis, bins: Bins) -> None:
    """Dress axes whose x axis is time."""
    margin = (bins.edges[-1] - bins.edges[0]) * 0.01
    ax.set_xlim(bins.edges[0] - margin, bins.edges[-1] + margin)
    axis.label(ax)
    dress(ax, grid="y")


def logarithmic(axis: Any, seconds: Any) -> None:
    """Make an axis one of durations, with each step ten times the one before, if they vary much."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    low, high = float(seconds.min()), float(seconds.max())
    if high < 20 * low:
        axis.axes.margins(y=0.12)
        return
    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    axis.set_major_locator(FixedLocator([t for t in _TICKS if low / 12 <= t <= high * 12]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axis.set_minor_locator(NullLocator())
    getattr(axis.axes, f"set_{axis.axis_name}lim")(low / 1.6, high * 1.6)


_TICKS: Final = (0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 36_000, 86_400, 864_000)


def _tick(seconds: float) -> str:
    if seconds <= 0:
        return "0" if seconds == 0 else ""
    for unit, word in (
        (86_400, "d"),
        (3600, "h"),
        (60, "min"),
        (1, "s"),
        (1e-3, "ms"),
        (1e-6, "µs"),
    ):
        if seconds >= unit * 0.9999:
            return f"{seconds / unit:.3g} {word}"
    return ""


def _height(frame: pd.DataFrame) -> float:
    return _HEIGHT if len(frame) else _EMPTY_HEIGHT


def _each(seconds: float) -> str:
    """A bin in words: "each second", "10 s", "each hour"."""
    single = {1: "each second", 60: "each minute", 3600: "each hour", 86_400: "each day"}
    return single.get(int(seconds), "") if seconds in single else f"each {format_duration(seconds)}"


def _rate_words(frame: pd.DataFrame) -> str:
    if not len(frame):
        return "No attempts"
    span = (frame["finished_at"].max() - frame["started_at"].min()).total_seconds()
    return f"{said(len(frame), 'attempt')} in {format_duration(span)}" + (
        f", {len(frame) / span:,.3g} a second" if span > 0 else ""
    )


def _middle(seconds: Any) -> str:
    import numpy as np

    half, most = np.percentile(seconds, [50, 95])
    return f"{format_duration(half)} (median), 95 % of them less than {format_duration(most)}"
