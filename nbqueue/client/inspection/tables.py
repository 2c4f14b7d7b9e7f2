"""What a client shows of a store, as frames and pictures, and what is done with rows of these."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nbqueue.client.inspection.task_filter import BulkResult
from nbqueue.durations import Duration

if TYPE_CHECKING:
    from pandas import DataFrame

    from nbqueue.client.inspection.inspector import Inspector
    from nbqueue.client.inspection.plots import Plots
    from nbqueue.client.session import Session


class Tables:
    """The part of a `Client` that shows, and acts on what was shown."""

    _session: Session

    if TYPE_CHECKING:

        @property
        def inspector(self) -> Inspector: ...

    def _repr_html_(self) -> str:
        from nbqueue.client.inspection.cards import client_html

        return client_html(self._session)

    # --- Frames --------------------------------------------------------------------------------

    def tasks(
        self,
        state: str | Iterable[str] | None = None,
        queue: str | Iterable[str] | None = None,
        type: str | Iterable[str] | None = None,
        since: Duration | datetime | None = None,
        *,
        ids: Any = None,
        name: str | Iterable[str] | None = None,
        error: str | None = None,
        limit: int | None = None,
        columns: Any = None,
    ) -> DataFrame:
        """The tasks that lie in the store, as a DataFrame indexed by ``task_id``, oldest first.

        ``state``, ``queue`` and ``type``: only these; ``*`` in a type or a queue stands for any
        characters. ``since``: only those with which something happened in this last while (a
        duration), or after a moment (a timezone-aware datetime). ``ids``: only these tasks (ids,
        futures, a group, a frame). ``name``: only the newest of exactly this name. ``error``: text
        that the last error contains. ``limit``: only the newest so many. ``columns``: these, where
        ``...`` stands for the usual ones; ``payload``, ``arguments``, ``headers``, ``retention``,
        ``result`` and ``exception`` are there only when asked for. See ``docs/frames.md`` for what
        each holds.

        >>> q.tasks(state="archived", since="1h")
        >>> q.tasks(columns=[..., "result"])

        Raises `UsageError` for what makes no sense, `StoreUnreachable`.
        """
        from nbqueue.client.inspection import frames

        return frames.tasks(
            self._session, state=state, queue=queue, type=type, since=since, ids=ids, limit=limit,
            columns=columns, name=name, error=error,
        )  # fmt: skip

    def attempts(
        self, since: Duration | datetime | None = None, limit: int | None = None
    ) -> DataFrame:
        """The finished attempts of all queues, as a DataFrame with a row for each, oldest first.

        ``since``: only those that finished in this last while (a duration), or after a moment (a
        timezone-aware datetime). ``limit``: only the newest so many.

        >>> q.attempts(since="1h")
        """
        from nbqueue.client.inspection import frames

        return frames.attempts(self._session, since, limit)

    def queues(self) -> DataFrame:
        """The queues as they are now, as a DataFrame indexed by ``queue``.

        >>> q.queues()[["pending", "active", "latency"]]
        """
        from nbqueue.client.inspection import frames

        return frames.queues(self._session)

    def workers(self) -> DataFrame:
        """The workers that reported lately, of nbqueue and in Go, indexed by ``worker``."""
        from nbqueue.client.inspection import frames

        return frames.workers(self._session)

    def schedules(self, queue: str | None = None) -> DataFrame:
        """The schedules of all queues, or of one, as a DataFrame indexed by ``id``.

        `Inspector.schedules` has their handles, with which to act on them.

        >>> q.schedules()[["spec", "next_at", "paused"]]
        """
        from nbqueue.client.inspection import frames
        from nbqueue.client.schedules.schedule import list_schedules

        return frames.schedules(self._session, list_schedules(self._session, queue).rows())

    def stats(
        self, days: float = 7, by: str = "queue", *, queue: str | Iterable[str] | None = None
    ) -> DataFrame:
        """How much was done, how well and how fast in the last ``days``, indexed by ``by``.

        ``by``: ``"queue"``, ``"type"``, ``"worker"``, ``"hour"`` or ``"day"`` (UTC). All from the
        finished attempts, which are kept for 7 days; days also from Asynq's counters, which know
        what programs in Go did and are kept for 90 days.

        >>> q.stats(by="type").sort_values("duration_p95")
        """
        from nbqueue.client.inspection import frames

        return frames.stats(self._session, days, by, queue)

    # --- Pictures ------------------------------------------------------------------------------

    def timeline(
        self,
        since: Duration | datetime | None = None,
        limit: int | None = None,
        **options: Any,
    ) -> Any:
        """A picture of which task ran when, and where; see `nbqueue.views.plots.timeline.timeline`.

        ``since`` and ``limit`` choose attempts as in `attempts`. ``format="trace"`` gives Chrome's
        trace events instead, as JSON for https://ui.perfetto.dev.
        """
        from nbqueue.client.inspection.frames import timeline

        return timeline(self.attempts(since, limit), options)

    @cached_property
    def plot(self) -> Plots:
        """Pictures of the attempts: ``q.plot.throughput()``, ``.latency()``, ``.durations()`` and
        ``.failures()``."""
        from nbqueue.client.inspection.plots import Plots

        return Plots(self)

    # --- Actions -------------------------------------------------------------------------------

    def retry(self, selection: Any = None, **where: Any) -> BulkResult:
        """Run tasks again, with all of their retries: rows of a frame, ids, futures, or a filter.

        >>> df = q.tasks(state="archived")
        >>> q.retry(df[df.error.str.contains("timeout")])

        See `Inspector` for what can be passed, and for what is raised.
        """
        return self.inspector.retry(selection, **where)

    def run(self, selection: Any = None, **where: Any) -> BulkResult:
        """Have tasks run as soon as their turn comes; see `Inspector.run`."""
        return self.inspector.run(selection, **where)

    def cancel(self, selection: Any = None, **where: Any) -> BulkResult:
        """Cancel tasks, whatever their state; see `Inspector.cancel`."""
        return self.inspector.cancel(selection, **where)

    def archive(self, selection: Any = None, **where: Any) -> BulkResult:
        """Put tasks away that do not run; see `Inspector.archive`."""
        return self.inspector.archive(selection, **where)

    def delete(self, selection: Any = None, **where: Any) -> BulkResult:
        """Delete tasks that do not run; see `Inspector.delete`."""
        return self.inspector.delete(selection, **where)

    def reschedule(self, selection: Any = None, **where: Any) -> BulkResult:
        """Have tasks run at another time, ``at=`` or after ``delay=``; see
        `Inspector.reschedule`."""
        return self.inspector.reschedule(selection, **where)
