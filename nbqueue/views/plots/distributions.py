"""Plot of the durations of attempts by type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbqueue.durations import format_duration
from nbqueue.views.format import count
from nbqueue.views.frames.columns import seconds_of
from nbqueue.views.plots.attempt_axes import BLUE, ORANGE, begin, check_frame, empty, logarithmic
from nbqueue.views.plots.figures import INK, add_legend, dress, label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_TYPES = 12
_FEW = 60
_LEAST_SECONDS = 5e-4
_OTHERS = "others"


def durations(frame: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Plot the durations of the attempts in ``frame``, with a line for each type.

    Types with the longest total time come first; after a dozen the others are combined. The bar
    holds the middle half of a type's attempts, the line 90 of 100, and the mark is the median. A
    type with few attempts also has a point for each.
    """
    check_frame(frame, "durations", {"type", "duration"})
    known = frame.dropna(subset=["duration"])
    seconds = seconds_of(known["duration"]).clip(lower=_LEAST_SECONDS).to_numpy()
    types = known["type"].astype("string").fillna("unknown")
    totals = seconds_of(known["duration"]).groupby(types).sum().sort_values(ascending=False)
    shown = list(totals.index[:_MOST_TYPES])
    summary = f"{count(len(known), 'attempt')} of {count(len(totals), 'type')} took {{}} in all"
    summary = summary.format(format_duration(float(totals.sum()))) if len(known) else "No attempts"
    rows = len(shown) + (len(totals) > len(shown))
    figure, ax = begin("Durations", summary, ax, height=min(1.5 + 0.42 * max(rows, 2), 7.0))
    if not len(known):
        return empty(figure, ax)
    named = types.where(types.isin(shown), _OTHERS).to_numpy()
    names = [*shown, *([_OTHERS] if rows > len(shown) else [])]
    for at, name in enumerate(names):
        _draw_type(ax, at, seconds[named == name], at == 0)
    ax.set_ylim(rows - 0.4, -0.6)
    labels = [f"{label(name, 28)} ({(named == name).sum():,})" for name in names]
    logarithmic(ax.xaxis, seconds)
    dress(ax)
    ax.set_yticks(range(rows), labels, parse_math=False)
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
