"""Figures of all plots: colours, an axis of time, and HTML for notebooks.

Plots use no global state of matplotlib and need no display. They are transparent, with ink that is
readable on white and on black alike, so that they fit light and dark themes.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from nbqueue.clock import to_ms
from nbqueue.errors import PlotMissing
from nbqueue.printable import printable
from nbqueue.views.format import badge, shortened, zoned_time
from nbqueue.views.html import element

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Style:
    """The look of one outcome: a hatch and a colour that everyone can distinguish.

    The colours are those of the states' badges. Paler colours never stand for a success.
    """

    colour: str
    hatch: str = ""
    edge: str = "none"


_HATCHES: Final = {
    "completed": ("", "none"),
    "retry": ("////", "#5c3f00"),
    "archived": ("xxxx", "#5a2500"),
    "lost": ("\\\\\\\\", "#4a1a35"),
    "interrupted": ("....", "#0b3a54"),
}
STYLES: Final = {name: Style(badge(name).colour, *hatch) for name, hatch in _HATCHES.items()}
UNKNOWN: Final = Style("#999999", "++", "#333333")
# Contrasts of 4.4 to white and 4.2 to the background of JupyterLab's dark theme: no grey has more.
INK, GRID, CARD, PALE = "#787878", "#80808040", "none", "#8a8a8a"
WIDTH = 9.0
"""The width of a plot, in inches."""


def label(text: str, most: int = 80) -> str:
    """Return text from the store as a label: printable, on one line, not too long."""
    return shortened(printable(text), most)


def check_matplotlib(what: str) -> None:
    """Raise `PlotMissing` unless matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise PlotMissing(
            f"{what} needs matplotlib, which is not installed: pip install matplotlib"
        ) from error


def new_figure(kind: str, summary: str, height: float) -> Figure:
    """Return an empty figure. ``kind`` and ``summary`` are its text for screen readers."""
    figure = _figure_class()(figsize=(WIDTH, height), facecolor=CARD, layout="constrained")
    figure.kind, figure.summary = kind, summary  # type: ignore[attr-defined]
    return figure


def dress(ax: Axes, *, grid: Any = "x", kept: tuple[str, ...] = ("bottom",)) -> None:
    """Draw axes with pale lines, without ticks, and with only the ``kept`` sides of the frame."""
    for side in ("top", "right", "left", "bottom"):
        ax.spines[side].set_visible(side in kept)
        ax.spines[side].set_color(PALE)
    ax.set_facecolor(CARD)
    ax.grid(axis=grid, color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, labelsize=9, colors=INK, labelcolor=INK)


def add_legend(ax: Axes) -> Any:
    """Add a legend below the plot."""
    figure: Any = ax.figure
    legend = figure.legend(
        *ax.get_legend_handles_labels(),
        loc="outside lower left",
        ncols=6,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=1.6,
        handleheight=0.9,
        columnspacing=1.6,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # text of the store is no formula
    return legend


class TimeAxis:
    """Seconds or minutes since the first start; local time if all took more than an hour."""

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
        """Return instants as ``float64`` on this axis."""
        import numpy as np

        if self.first is None:
            return np.zeros(0)
        elapsed = (instants - self.first).dt.total_seconds().to_numpy() / self.unit_seconds
        if self.clock:
            from matplotlib.dates import date2num

            return elapsed + date2num(self.first.to_pydatetime())
        return elapsed

    def limits(self, starts: Any, ends: Any) -> tuple[float, float]:
        """Return the ends of the axis."""
        if not len(starts):
            return 0.0, 1.0
        left, right = float(starts.min()), float(ends.max())
        width = max(right - left, 1e-3)
        return left - width * 0.01, left + width * 1.01

    def label(self, ax: Axes) -> None:
        """Set up the ticks and the label of the time axis."""
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
            text = f"{self.unit} since {zoned_time(to_ms(local))}"
        ax.set_xlabel(text, fontsize=9, color=INK)


@cache
def _figure_class() -> type[Figure]:
    """Return a class of figures without pyplot, which a notebook can display."""
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        kind, summary = "Picture", ""

        def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
            # Twice the pixels at half their size are sharp on today's screens. HTML has a text for
            # screen readers, unlike a PNG in a notebook.
            picture = io.BytesIO()
            self.savefig(picture, format="png", dpi=200)
            data = base64.b64encode(picture.getvalue()).decode("ascii")
            width = round(self.get_figwidth() * 100)
            image = element(
                "img",
                alt=f"{self.kind}: {self.summary}",
                width=str(width),
                style="max-width: 100%; height: auto",
                src=f"data:image/png;base64,{data}",
            )
            size = {"width": width, "height": round(self.get_figheight() * 100)}
            return (
                {"text/plain": repr(self), "text/html": str(image), "image/png": data},
                {"image/png": size},
            )

        def __repr__(self) -> str:
            return printable(f"<{self.kind}: {self.summary}>")

    return ShownFigure
