"""``q.plot``: pictures of the attempts in the store of a client."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from nbqueue.durations import Duration

if TYPE_CHECKING:
    from nbqueue.client.inspection.tables import Tables


class Plots:
    """Pictures of what workers did; get it as ``q.plot``.

    >>> q.plot.latency(since="1h")

    ``since`` and ``limit`` choose attempts as in `Client.attempts`; ``queue`` and ``type`` choose
    among these. ``ax=`` draws into axes of your own. Each returns a figure of matplotlib, which
    shows itself in a notebook. All raise `PlotMissing` if matplotlib is not installed.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def throughput(self, **options: Any) -> Any:
        """How many attempts ended over time, by how they ended."""
        from nbqueue.views.plots.throughput import throughput

        return throughput(*self._chosen(**options))

    def latency(self, **options: Any) -> Any:
        """For how long tasks were pending before they began, over time."""
        from nbqueue.views.plots.throughput import latency

        return latency(*self._chosen(**options))

    def durations(self, **options: Any) -> Any:
        """How long attempts of each type took."""
        from nbqueue.views.plots.distributions import durations

        return durations(*self._chosen(**options))

    def failures(self, **options: Any) -> Any:
        """Which attempts failed, over time, and of what."""
        from nbqueue.views.plots.failures import failures

        return failures(*self._chosen(**options))

    def _chosen(
        self,
        since: Duration | datetime | None = None,
        limit: int | None = None,
        queue: str | None = None,
        type: str | None = None,
        ax: Any = None,
    ) -> tuple[Any, Any]:
        frame = self._tables.attempts(since, limit)
        for name, value in (("queue", queue), ("type", type)):
            if value is not None:
                frame = frame[frame[name].astype("string") == value]
        return frame, ax
