"""Axes of plots of attempts: their frame, bins of time, stacked bars, logarithmic durations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nbqueue.errors import UsageError
from nbqueue.views.plots.figures import (
    INK,
    STYLES,
    UNKNOWN,
    TimeAxis,
    check_matplotlib,
    dress,
    label,
    new_figure,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT: Final = 3.2
"""The height of a plot, in inches."""

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"

_STEPS: Final = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400,
)  # fmt: skip
_FEW, _FEW_BINS, _MOST_BINS = 100, 24, 60


@dataclass
class Bins:
    """Time cut into equal bins of ``seconds`` each; ``of_row`` is the bin of each row."""

    seconds: float
    count: int
    of_row: Any
    edges: Any
    """Values on the axis, one more than there are bins."""


def cut(axis: TimeAxis, at: Any) -> Bins:
    """Cut the time between the first and the last of ``at``, values on ``axis``, into bins."""
    import numpy as np

    first, last = float(at.min()), float(at.max())
    whole = max((last - first) * axis.unit_seconds, 1e-3)
    most = _FEW_BINS if len(at) <= _FEW else _MOST_BINS
    step = next((s for s in _STEPS if whole / s <= most), whole / most)
    wide = step / axis.unit_seconds
    # Edges are round numbers since the first start.
    begin = first - first % wide if not axis.clock else first
    count = max(1, int(np.ceil((last - begin) / wide + 1e-9)))
    of_row = np.minimum(((at - begin) / wide).astype("int64"), count - 1)
    return Bins(step, count, of_row, begin + wide * np.arange(count + 1))


def draw_stacked(ax: Axes, bins: Bins, outcomes: pd.Series) -> None:
    """Draw a stacked bar for each bin, with a colour and a hatch for each outcome."""
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
            label=f"{label(name)} ({counts[name]:,})", zorder=3,
        )  # fmt: skip
        base += heights
    from matplotlib.ticker import MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.margins(y=0.06)


def check_frame(frame: pd.DataFrame, what: str, columns: set[str]) -> None:
    """Raise `UsageError` if ``frame`` lacks columns, `PlotMissing` without matplotlib."""
    missing = columns - set(frame.columns)
    if missing:
        raise UsageError(
            f"this frame has no column {', '.join(sorted(missing))}: "
            'pass one of q.attempts(columns="all")'
        )
    check_matplotlib(f"a picture of the {what}")


def begin(kind: str, summary: str, ax: Axes | None, height: float = HEIGHT) -> tuple[Figure, Any]:
    """Return the figure and the axes to draw into, with their title."""
    if ax is None:
        figure = new_figure(kind, summary, height)
        ax = figure.add_subplot()
    ax.set_title(summary, loc="left", fontsize=10.5, color=INK)
    drawn: Any = ax.figure
    return drawn, ax


def empty(figure: Figure, ax: Axes) -> Figure:
    """Draw axes without attempts."""
    dress(ax)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.text(0.5, 0.5, "no attempts", transform=ax.transAxes, ha="center", color=INK)
    return figure


def finish(ax: Axes, axis: TimeAxis, bins: Bins) -> None:
    """Finish axes whose x axis is time."""
    margin = (bins.edges[-1] - bins.edges[0]) * 0.01
    ax.set_xlim(bins.edges[0] - margin, bins.edges[-1] + margin)
    axis.label(ax)
    dress(ax, grid="y")


def logarithmic(axis: Any, seconds: Any) -> None:
    """Make an axis one of durations, logarithmic if they vary much."""
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
