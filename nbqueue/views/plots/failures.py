"""Plot of failed attempts: their times and their errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nbqueue.views.format import count
from nbqueue.views.plots.attempt_axes import ORANGE, check_frame, cut, draw_stacked, empty, finish
from nbqueue.views.plots.figures import INK, TimeAxis, add_legend, dress, label, new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_ERRORS = 8


def failures(frame: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Plot the attempts in ``frame`` that did not complete.

    Above is their number over time, by outcome; below are the most frequent errors, counted without
    regard to numbers in their texts. With ``ax`` only the upper part is drawn.
    """
    check_frame(frame, "failures", {"started_at", "finished_at", "outcome", "error"})
    known = frame.dropna(subset=["started_at", "finished_at"])
    outcomes = known["outcome"].astype("string").fillna("unknown")
    failed = known[outcomes != "completed"]
    summary = _words(len(known), len(failed))
    causes = _causes(failed)
    below = None
    if ax is None:
        rows = len(causes)
        made = new_figure("Failures", summary, 3.2 + 0.42 * rows)
        if rows:
            ax, below = made.subplots(2, 1, height_ratios=[2.4, 0.42 * rows])
        else:
            ax = made.add_subplot()
    figure: Figure = ax.figure  # type: ignore[assignment]
    ax.set_title(summary, loc="left", fontsize=10.5, color=INK)
    if not len(failed):
        return empty_failures(figure, ax)
    axis = TimeAxis(known)
    ends = axis.values(known["finished_at"])
    bins = cut(axis, ends)
    is_failed = (outcomes != "completed").to_numpy()
    bins.of_row = bins.of_row[is_failed]
    draw_stacked(ax, bins, outcomes[outcomes != "completed"])
    finish(ax, axis, bins)
    ax.set_ylabel("attempts", fontsize=9, color=INK)
    if below is not None:
        _draw_causes(below, causes)
    add_legend(ax)
    return figure


def empty_failures(figure: Figure, ax: Axes) -> Figure:
    """Draw axes without failures."""
    empty(figure, ax)
    ax.texts[-1].set_text("nothing failed")
    return figure


def _causes(failed: pd.DataFrame) -> pd.Series:
    errors = failed["error"].astype("string").fillna("no error was noted")
    texts = errors.map(lambda text: label(re.sub(r"\d+", "…", str(text)), 100))
    counts: pd.Series = texts.value_counts().head(_MOST_ERRORS)
    return counts


def _draw_causes(ax: Axes, causes: pd.Series) -> None:
    # A text is above its bar: at its side, a long one would narrow the plot.
    numbers, whole = causes.to_numpy(), int(causes.sum())
    ax.barh(range(len(causes)), numbers, height=0.26, color=ORANGE, linewidth=0, zorder=3)
    for at, (text, number) in enumerate(zip(causes.index, numbers, strict=True)):
        ax.annotate(
            f"{number:,}  {text}", (0, at - 0.2), (0, 2), textcoords="offset points", fontsize=9,
            color=INK, parse_math=False,
        )  # fmt: skip
    ax.set_ylim(len(causes) - 0.8, -0.8)
    ax.set_xlim(0, whole)
    dress(ax, kept=())
    ax.grid(visible=False)
    ax.set_xticks([])
    ax.set_yticks([])


def _words(number: int, failed: int) -> str:
    if not number:
        return "No attempts"
    share = f"{failed / number:.1%}" if failed else "none"
    return f"{count(failed, 'attempt')} of {number:,} did not complete ({share})"
