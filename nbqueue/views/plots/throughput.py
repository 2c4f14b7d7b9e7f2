"""Plots of attempts over time: their number, and the waiting times of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbqueue.durations import format_duration
from nbqueue.views.format import count
from nbqueue.views.frames.columns import seconds_of
from nbqueue.views.plots.attempt_axes import (
    BLUE,
    HEIGHT,
    ORANGE,
    Bins,
    begin,
    check_frame,
    cut,
    draw_stacked,
    empty,
    finish,
    logarithmic,
)
from nbqueue.views.plots.figures import INK, TimeAxis, add_legend

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_POINTS = 2000
_EMPTY_HEIGHT = 1.4


def throughput(frame: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Plot the number of attempts in ``frame`` that ended over time, by outcome."""
    check_frame(frame, "throughput", {"started_at", "finished_at", "outcome"})
    known = frame.dropna(subset=["started_at", "finished_at"])
    summary = _rate_words(known)
    figure, ax = begin("Throughput", summary, ax, _height(known))
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


def latency(frame: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Plot the waiting times of the attempts in ``frame``.

    There is a point for each attempt, or for a sample of many, and then lines for the median and
    the 95th percentile over time.
    """
    check_frame(frame, "latency", {"started_at", "finished_at", "waited"})
    known = frame.dropna(subset=["started_at", "finished_at", "waited"])
    seconds = seconds_of(known["waited"]).to_numpy()
    summary = "No attempts"
    if len(known):
        summary = f"{count(len(known), 'attempt')} waited {_middle(seconds)}"
    figure, ax = begin("Latency", summary, ax, _height(known))
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


def _height(frame: pd.DataFrame) -> float:
    return HEIGHT if len(frame) else _EMPTY_HEIGHT


def _each(seconds: float) -> str:
    """Return a bin in words: "each second", "each 10s", "each hour"."""
    single = {1: "each second", 60: "each minute", 3600: "each hour", 86_400: "each day"}
    return single.get(int(seconds), "") if seconds in single else f"each {format_duration(seconds)}"


def _rate_words(frame: pd.DataFrame) -> str:
    if not len(frame):
        return "No attempts"
    span = (frame["finished_at"].max() - frame["started_at"].min()).total_seconds()
    return f"{count(len(frame), 'attempt')} in {format_duration(span)}" + (
        f", {len(frame) / span:,.3g} a second" if span > 0 else ""
    )


def _middle(seconds: Any) -> str:
    import numpy as np

    half, most = np.percentile(seconds, [50, 95])
    return f"{format_duration(half)} (median), 95 % of them less than {format_duration(most)}"
