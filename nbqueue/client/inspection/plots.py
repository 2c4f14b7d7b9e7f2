"""``q.plot`` and timelines: pictures of the attempts in a store.

matplotlib and pandas are imported only when something is drawn: they are heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from nbqueue.durations import Duration
from nbqueue.errors import UsageError
from nbqueue.keywords import lists
from nbqueue.names import known_names, not_among
from nbqueue.printable import shown

if TYPE_CHECKING:
    from pandas import DataFrame
    from typing_extensions import Unpack


class TimelineKeywords(TypedDict, total=False):
    """The keyword arguments of `Client.timeline`."""

    by: Literal["worker", "task"]
    ax: Any
    title: str | None
    format: Literal["figure", "trace"]


TIMELINE_DEFAULTS: Final[Mapping[str, Any]] = {
    "by": "worker", "ax": None, "title": None, "format": "figure",
}  # fmt: skip


class PlotKeywords(TypedDict, total=False):
    """The keyword arguments of the methods of `Plots`."""

    since: Duration | datetime | None
    limit: int | None
    queue: str | None
    type: str | None
    ax: Any


_PLOT_DEFAULTS: Final[Mapping[str, Any]] = dict.fromkeys(PlotKeywords.__annotations__)


class Plots:
    """Plots of the attempts in a store; get it as ``q.plot``.

    >>> q.plot.latency(since="1h")

    ``since``, ``limit``, ``queue`` and ``type`` choose attempts as in `Client.attempts`. ``ax=``
    draws into existing axes. Each method returns a figure of matplotlib, which a notebook displays.
    All raise `PlotMissing` if matplotlib is not installed.
    """

    def __init__(self, attempts: Callable[..., DataFrame]) -> None:
        self._attempts = attempts

    @lists(_PLOT_DEFAULTS)
    def throughput(self, **options: Unpack[PlotKeywords]) -> Any:
        """Plot how many attempts ended over time, by outcome."""
        from nbqueue.views.plots.throughput import throughput

        return throughput(*self._chosen(options))

    @lists(_PLOT_DEFAULTS)
    def latency(self, **options: Unpack[PlotKeywords]) -> Any:
        """Plot how long tasks were pending before they began, over time."""
        from nbqueue.views.plots.throughput import latency

        return latency(*self._chosen(options))

    @lists(_PLOT_DEFAULTS)
    def durations(self, **options: Unpack[PlotKeywords]) -> Any:
        """Plot how long attempts of each type took."""
        from nbqueue.views.plots.distributions import durations

        return durations(*self._chosen(options))

    @lists(_PLOT_DEFAULTS)
    def failures(self, **options: Unpack[PlotKeywords]) -> Any:
        """Plot which attempts failed, over time, by error."""
        from nbqueue.views.plots.failures import failures

        return failures(*self._chosen(options))

    def _chosen(self, options: PlotKeywords) -> tuple[Any, Any]:
        chosen: dict[str, Any] = {**options}
        check_keywords(chosen, _PLOT_DEFAULTS, "a plot")
        ax = chosen.pop("ax", None)
        return self._attempts(columns="all", **chosen), ax


def check_keywords(given: Mapping[str, Any], known: Mapping[str, Any], what: str) -> None:
    """Raise `UsageError` for keyword arguments that are not known."""
    for name in given:
        if name not in known:
            raise UsageError(f"{shown(name)} is no option of {what}{known_names(name, known)}")


def draw_timeline(frame: DataFrame, keywords: TimelineKeywords) -> Any:
    """Draw attempts; with ``format="trace"`` return Chrome's trace events, as JSON."""
    options: dict[str, Any] = {**keywords}
    check_keywords(options, TIMELINE_DEFAULTS, "a timeline")
    wanted = options.pop("format", "figure")
    if wanted == "trace":
        from nbqueue.views.plots.trace_events import trace

        if options:
            raise UsageError(f"format='trace' takes no {', '.join(options)}=")
        return trace(frame)
    if wanted != "figure":
        raise not_among("format", wanted, ("figure", "trace"))
    from nbqueue.views.plots.timeline import timeline

    return timeline(frame, **options)
