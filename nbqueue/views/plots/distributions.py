"""A picture of how long attempts took: the spread for each type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbqueue.durations import format_duration
from nbqueue.views.format import shortened
from nbqueue.views.plots.figures import INK, add_legend, dress, said
from nbqueue.views.plots.throughput import BLUE, ORANGE, begin, check_frame, empty, logarithmic

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_TYPES = 12
_FEW = 60
_LEAST_SECONDS = 5e-4
_OTHERS = "others"


def durations(frame: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Return a picture of how long the attempts in ``frame`` took, a line for each type.

    The types with the most time in all come first; from a dozen on they are put together. The bar
    holds the middle half of a type's attempts, the line 90 of 100, and the mark is the median;
    where there are few attempts each is a point.
    """
    check_frame(frame, "durations", {"type", "duration"})
    known = frame.dropna(subset=["duration"])
    seconds = known["duration"].dt.total_seconds().clip(lower=_LEAST_SECONDS).to_numpy()
    types = known["type"].astype("string").fillna("unknown")
    totals = known["duration"].dt.total_seconds().groupby(types).sum().sort_values(ascending=False)
    shown = list(totals.index[:_MOST_TYPES])
    told = f"{said(len(known), 'attempt')} of {said(len(totals), 'type')} took {{}} in all"
    told = told.format(format_duration(float(totals.sum()))) if len(known) else "No attempts"
    rows = len(shown) + (len(totals) > len(shown))
    figure, ax = begin("Durations", told, ax, height=min(1.5 + 0.42 * max(rows, 2), 7.0))
    if not len(known):
        return empty(figure, ax)
    named = types.where(types.isin(shown), _OTHERS).to_numpy()
    names = [*shown, *([_OTHERS] if rows > len(shown) else [])]
    for at, name in enumerate(names):
        _draw_type(ax, at, seconds[named == name], at == 0)
    ax.set_ylim(rows - 0.4, -0.6)
    labels = [f"{shortened(name, 28)} ({(named == name).sum():,})" for name in names]
    logarithmic(ax.xaxis, seconds)
    dress(ax)
    ax.set_yticks(range(rows), labels)
    ax.set_xlabel("duration of an attempt", fontsize=9, color=INK)
    add_legend(ax)
    return figure


def _draw_type(ax: Axes, at: int, seconds: Any, is_labelled: bool) -> None:
    import numpy as np

    low, first, middle, third, high = np.percentile(seconds, [5, 25, 50, 75, 95])
    if len(seconds) <= _FEW:
        spread = (np.arange(len(seconds)) % 5 - 2) * 0.07
        ax.scatter(seconds, at + spread, s=16, color=BLUE, alpha=0.45, linewidths=0, zorder=4)
    ax.plot([low, high], [at, at], color=BLUE, linewidth=1.2, alpha=0.9, zorder=2,
            label="90 of 100" if is_labelled else None)  # fmt: skip
    ax.plot([first, third], [at, at], color=BLUE, linewidth=11, alpha=0.35, zorder=3,
            solid_capstyle="butt", label="the middle half" if is_labelled else None)  # fmt: skip
    ax.plot([middle], [at], marker="|", markersize=13, markeredgewidth=2.6, color=ORANGE, zorder=5,
            linestyle="none", label="median" if is_labelled else None)  # fmt: skip
