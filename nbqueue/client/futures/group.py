"""`TaskGroup`: the handle of the tasks of one `map`."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, overload

from nbqueue.calls.exceptions import error_text
from nbqueue.client.cancelling.tasks_in_go import CANCEL_SECONDS
from nbqueue.client.futures.awaited_workers import needed_by
from nbqueue.client.futures.future import TaskFuture
from nbqueue.client.futures.members import Completions, Futures, InOrder
from nbqueue.client.futures.outcome import Outcome, RawOutcome
from nbqueue.client.futures.task_facts import TaskFacts
from nbqueue.client.futures.waits import (
    AsyncWaiters,
    SelectiveCondition,
    WaitTimeout,
    in_time,
    is_awaited,
    seconds_of,
    until_of,
    wait_for,
)
from nbqueue.client.live.display import awaited_shown, bundle_of, show_live, wait_shown
from nbqueue.durations import Duration
from nbqueue.moved_modules import public
from nbqueue.printable import visible
from nbqueue.wire import states

if TYPE_CHECKING:
    from pandas import DataFrame

    from nbqueue.client.session import Session

T = TypeVar("T")

_log = logging.getLogger("nbqueue.client")


class Counts(NamedTuple):
    """How many tasks of a group ended in which way, as far as is known here."""

    total: int
    completed: int
    failed: int
    cancelled: int

    @property
    def done(self) -> int:
        """How many ended, in whatever way."""
        return self.completed + self.failed + self.cancelled


@public
class TaskGroup(Generic[T]):
    """The tasks of one `Client.map`, in the order of their arguments.

    >>> g = q.map(fit, grid)
    >>> for score in g: ...                 # results in order; waits where it must
    >>> for f in g.as_completed(): ...      # futures, as their tasks end
    >>> g.results(return_exceptions=True)   # doctest: +SKIP

    Ten thousands of tasks are no burden: futures are made when asked for, and results unpickled
    when read. As with a `TaskFuture`, ending a wait never cancels a task; `cancel` does.
    """

    def __init__(self, session: Session, group_id: str, about: TaskFacts) -> None:
        self.id = group_id
        self._session = session
        self._about = about
        self._ids: list[str] = []
        self._index: dict[str, int] = {}
        self._outcomes: list[Outcome | None] = []
        self._ended: list[int] = []
        self._futures: dict[int, TaskFuture[T]] = {}
        self._failed = self._cancelled = 0
        self._changed = SelectiveCondition()
        self._async_waiters = AsyncWaiters()
        self._callbacks: list[Callable[[TaskGroup[T]], object]] = []
        self._until: float | None = None
        self._cursor: Iterator[T] | None = None
        self._begun_ms = session.clock.now_ms()
        self._ended_ms: int | None = None

    @property
    def queue(self) -> str:
        """The name of the queue of its tasks."""
        return self._about.queue

    @property
    def type(self) -> str:
        """The name of the function."""
        return self._about.type

    @property
    def name(self) -> str | None:
        """The name given with ``options(name=…)``, or None."""
        return self._about.name

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of its tasks, in order."""
        return tuple(self._ids)

    @property
    def futures(self) -> Sequence[TaskFuture[T]]:
        """The handles of its tasks, in order; each is made when first asked for."""
        return Futures(self)

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> TaskFuture[T]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TaskFuture[T]]: ...
    def __getitem__(self, index: int | slice) -> TaskFuture[T] | Sequence[TaskFuture[T]]:
        return self.futures[index]

    # --- What is known, without asking the store -----------------------------------------------

    def counts(self) -> Counts:
        """How many tasks completed, failed and were cancelled, of how many. Asks nobody."""
        with self._changed:
            done, bad = len(self._ended), self._failed + self._cancelled
            return Counts(len(self._ids), done - bad, self._failed, self._cancelled)

    @property
    def done_count(self) -> int:
        """How many of its tasks have ended, in whatever way."""
        return len(self._ended)

    def done(self) -> bool:
        """True if all of its tasks are known to have ended."""
        return len(self._ended) == len(self._ids)

    def on_progress(self, callback: Callable[[TaskGroup[T]], object]) -> None:
        """Call ``callback(group)`` whenever tasks have ended: once for all that end together.

        It runs in the thread that receives results, so it must be quick and wait for nothing.
        """
        with self._changed:
            self._callbacks.append(callback)

    # --- Waiting -------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[T]:
        """The results, in order. Raises the exception of the first task that has none."""
        return self._results(self._until)

    def __next__(self) -> T:
        # What other executors' map returns is an iterator, so next(q.map(…)) has to work.
        if self._cursor is None:
            self._cursor = iter(self)
        return next(self._cursor)

    def _results(self, until: float | None) -> Iterator[T]:
        since = time.monotonic()
        for index in range(len(self._ids)):
            yield self._value(self._wait_for_one(index, until, since))

    def results(
        self, timeout: Duration | None = None, return_exceptions: bool = False
    ) -> list[Any]:
        """Wait for all tasks, and return their results in order.

        ``timeout``: how long to wait in all, a duration. With ``return_exceptions`` the exception
        of a task that failed takes the place of its result; without, the first one in order is
        raised. Raises `TimeoutError` if tasks have not ended in time; they go on.

        ``await g.results()`` waits without blocking: buttons work meanwhile. To wait for it among
        others, as with `asyncio.gather`, pass the group itself.
        """
        if is_awaited(sys._getframe(1)):
            return self._results_async(timeout, return_exceptions)  # type: ignore[return-value]
        until = until_of(timeout)
        self._wait_until(InOrder(self._outcomes, return_exceptions), until)
        found: list[Any] = []
        for index in range(len(self._ids)):
            outcome = self._wait_for_one(index, until)
            value, error = outcome.load()
            if error is not None and not return_exceptions:
                raise error
            found.append(value if error is None else error)
        return found

    def as_completed(self, timeout: Duration | None = None) -> Completions[T]:
        """The futures of its tasks as they end; for ``for`` and for ``async for``.

        Raises `TimeoutError` where the next one has not ended in time, measured from this call.
        """
        return Completions(self, until_of(timeout))

    def wait(self, timeout: Duration | None = None) -> bool:
        """Wait until all tasks have ended. False if the time was up before."""
        self._refuse_in_callback()
        return wait_shown(self, self._changed, self.done, seconds_of(timeout))

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._results_async().__await__()

    async def _results_async(
        self, timeout: Duration | None = None, return_exceptions: bool = False
    ) -> list[Any]:
        enough = InOrder(self._outcomes, return_exceptions)
        waiting = awaited_shown(self, self._async_waiters.wait(self._changed, enough))
        await in_time(waiting, seconds_of(timeout), self._not_ended)
        return self.results(0, return_exceptions)

    async def __aiter__(self) -> AsyncIterator[T]:
        since = time.monotonic()
        for index in range(len(self._ids)):
            await awaited_shown(
                self,
                self._async_waiters.wait(self._changed, lambda i=index: self._has(i)),  # type: ignore[misc]
                since,
            )
            yield self._value(self._wait_for_one(index, None))

    def _wait_for_one(self, index: int, until: float | None, since: float | None = None) -> Outcome:
        outcome = self._outcomes[index]
        if outcome is None:
            self._wait_until(lambda: self._has(index), until, since)
            outcome = self._outcomes[index]
            assert outcome is not None
        return outcome

    def _wait_until(
        self, predicate: Callable[[], bool], until: float | None, since: float | None = None
    ) -> None:
        self._refuse_in_callback()
        seconds = None if until is None else max(until - time.monotonic(), 0.0)
        if not wait_shown(self, self._changed, predicate, seconds, since):
            raise self._not_ended()

    def _not_ended(self) -> WaitTimeout:
        left = len(self) - self.done_count
        need = self._need()
        known = f" ({need})" if need else ""
        return WaitTimeout(f"{left} of {len(self)} tasks have not ended yet{known}; they go on")

    def _refuse_in_callback(self) -> None:
        if self._session.listener.is_this_thread() and not self.done():
            raise RuntimeError(
                "a callback cannot wait for tasks: it runs in the thread that receives results"
            )

    def _has(self, index: int) -> bool:
        return self._outcomes[index] is not None

    @staticmethod
    def _value(outcome: Outcome) -> T:
        value, error = outcome.load()
        if error is not None:
            raise error
        result: T = value
        return result

    # --- Ending --------------------------------------------------------------------------------

    def cancel(self) -> int:
        """Cancel every task that has not ended. Returns how many are cancelled now.

        As `TaskFuture.cancel`: workers of running tasks are asked, and waited for 2 seconds.
        Raises `StoreUnreachable`.
        """
        left = self._unended()
        answers = self._session.cancel(self.queue, left)
        running = [self._index[i] for i, answer in answers.items() if answer == states.ACTIVE]
        if running and not self._session.listener.is_this_thread():
            with self._changed:
                wait_for(self._changed, lambda: all(map(self._has, running)), CANCEL_SECONDS)
        with self._changed:
            outcomes = [self._outcomes[self._index[i]] for i in left]
        return sum(outcome is not None and outcome.is_cancelled for outcome in outcomes)

    # --- Frames and pictures -------------------------------------------------------------------

    def frame(self, columns: Any = None) -> DataFrame:
        """The finished attempts of its tasks, as a DataFrame with a row for each.

        With ``columns``, its tasks as they are now instead, a row for each in the order of their
        arguments, as `Client.tasks` has them: ``g.frame([..., "arguments", "result"])``.
        """
        from nbqueue.client.inspection import frames

        if columns is not None:
            return frames.group_tasks(self._session, self.queue, self._ids, columns)
        # What was enqueued may have begun a moment before, on a clock that was just measured.
        return frames.group_attempts(
            self._session, self.queue, self._begun_ms - 60_000, self._index
        )

    def timeline(self, **options: Any) -> Any:
        """A picture of when its tasks ran, and where; see `Client.timeline`."""
        from nbqueue.client.inspection.frames import timeline

        return timeline(self.frame(), options)

    # --- In a notebook -------------------------------------------------------------------------

    def show(self) -> None:
        """Show its card here, live until all tasks have ended; elsewhere than in a notebook, its
        text. A group that is the last line of a cell does so by itself."""
        show_live(self)

    _ipython_display_ = show

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return bundle_of(self)

    def _unended(self) -> list[str]:
        """The ids of tasks that are not known to have ended."""
        with self._changed:
            return [i for i, outcome in zip(self._ids, self._outcomes, strict=True) if not outcome]

    def _unended_by_queue(self) -> dict[str, list[str]]:
        return {self.queue: self._unended()}

    def _holds(self, queue: str, task_id: str) -> bool:
        return queue == self.queue and task_id in self._index

    def _first_errors(self, most: int) -> list[tuple[str, str]]:
        """Name and error text of the first tasks that failed, in the order in which they did."""
        found: list[tuple[str, str]] = []
        with self._changed:
            ended = [(index, self._outcomes[index]) for index in self._ended]
        for index, outcome in ended:
            if len(found) == most:
                break
            if outcome is not None and outcome.is_failed and not outcome.is_cancelled:
                error = outcome.load()[1]
                found.append((f"task {index}", error_text(error) if error else "failed"))
        return found

    # --- Called by the submitter, the listener and the futures -----------------------------------

    def _add(self, task_ids: Sequence[str]) -> None:
        with self._changed:
            first = len(self._ids)
            self._ids.extend(task_ids)
            self._outcomes.extend([None] * len(task_ids))
            self._index.update(zip(task_ids, range(first, len(self._ids)), strict=True))

    def _take(self, ends: Sequence[tuple[str, RawOutcome]]) -> None:
        how = self._about.is_call, self._about.is_json
        found = [(i, self._session.outcome(i, end, *how)) for i, end in ends]
        settled: list[tuple[TaskFuture[T], Outcome]] = []
        is_news = False
        with self._changed:
            for task_id, outcome in found:
                index = self._index[task_id]
                if self._outcomes[index] is not None:
                    continue
                self._outcomes[index] = outcome
                self._ended.append(index)
                self._cancelled += outcome.is_cancelled
                self._failed += outcome.is_failed and not outcome.is_cancelled
                future = self._futures.get(index)
                if future is not None:
                    settled.append((future, outcome))
                is_news = True
            if is_news and len(self._ended) == len(self._ids):
                self._ended_ms = self._session.clock.now_ms()
            callbacks = list(self._callbacks)
            self._async_waiters.wake()
            self._changed.tell()
        for future, outcome in settled:
            future._settle(outcome)
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                _log.exception("on_progress of %r failed", self)

    def _notice(self, task_id: str, state: str) -> None:
        future = self._futures.get(self._index[task_id])
        if future is not None:
            future._notice(task_id, state)

    def _future_of(self, task_id: str) -> TaskFuture[T]:
        return self._future_at(self._index[task_id])

    def _future_at(self, index: int) -> TaskFuture[T]:
        with self._changed:
            future = self._futures.get(index)
            if future is None:
                name = f"{self.name}-{index}" if self.name else None
                about = self._about._replace(task_id=self._ids[index], name=name)
                future = self._futures[index] = TaskFuture(self._session, about)
            outcome = self._outcomes[index]
        if outcome is not None:
            future._settle(outcome)
        return future

    def __reduce__(self) -> Any:
        raise TypeError("a TaskGroup does not travel; list(g.futures) does")

    def __repr__(self) -> str:
        counts = self.counts()
        said = f"{counts.done} of {counts.total} done"
        for number, word in ((counts.failed, "failed"), (counts.cancelled, "cancelled")):
            if number:
                said += f", {number} {word}"
        need = self._need()
        said += f": {need};" if need else ""
        return visible(f"<TaskGroup {self.name or self.type} {said} id={self.id}>")

    def _need(self) -> str:
        """What its tasks need of a worker, if that is what they wait for."""
        return needed_by(self._session, self.queue, self._unended())
