"""`TaskGroup`: the handle of the tasks of one `Client.map`."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from nbqueue.client import inspection
from nbqueue.client.cancelling.tasks_in_go import CANCEL_SECONDS
from nbqueue.client.futures.future import TaskFuture
from nbqueue.client.futures.group_state import Counts, EnoughEnded, GroupState
from nbqueue.client.futures.handle import TaskHandle
from nbqueue.client.futures.members import Completions, Futures
from nbqueue.client.futures.task_facts import TaskFacts
from nbqueue.client.futures.waits import (
    AsyncWaiters,
    Results,
    SelectiveCondition,
    WaitTimeout,
    seconds_of,
    until_of,
    wait_for,
)
from nbqueue.client.inspection.plots import TIMELINE_DEFAULTS, TimelineKeywords, draw_timeline
from nbqueue.client.live.display import awaited_shown, group_view, wait_shown
from nbqueue.client.live.interrupted_waits import group_goes_on
from nbqueue.client.live.task_snapshot import last_end_ms
from nbqueue.client.obstacles.obstacle import advice, in_short
from nbqueue.client.results.failed_calls import FailedTask
from nbqueue.client.results.outcome import Outcome, RawOutcome
from nbqueue.client.session import Session
from nbqueue.client.task_groups.retrying import retry_failed
from nbqueue.durations import Duration
from nbqueue.errors import StoreError
from nbqueue.keywords import lists
from nbqueue.moved_modules import pickled_as
from nbqueue.printable import printable
from nbqueue.runtime.forks import InheritedLock
from nbqueue.wire import states

if TYPE_CHECKING:
    from pandas import DataFrame
    from typing_extensions import Unpack

    from nbqueue.client.inspection.task_filter import BulkResult
    from nbqueue.client.obstacles.obstacle_watch import ObstacleWatch
    from nbqueue.client.obstacles.store_facts import Wanted

T = TypeVar("T")

_log = logging.getLogger("nbqueue.client")

_SAMPLE = 20
"""The number of tasks that are looked at to find why a group does not go on."""


@pickled_as("nbqueue.client.groups")
class TaskGroup(TaskHandle, Generic[T]):
    """The tasks of one `Client.map`, in the order of their arguments.

    >>> g = q.map(fit, grid)
    >>> for score in g: ...                 # results in order; waits where it must
    >>> for f in g.as_completed(): ...      # futures, as their tasks end
    >>> g.results(return_exceptions=True)   # doctest: +SKIP

    It can have tens of thousands of tasks: futures are made when asked for, and results unpickled
    when read. As with a `TaskFuture`, ending a wait never cancels a task; `cancel` does.
    """

    if TYPE_CHECKING:

        def _as_argument(self) -> list[T]:
            """Make a group of values an argument that a list of them is; see `Argument`."""

    _is_complete = True
    """False if the map that made the group has not ended, or was cut off."""

    _read_end_ms: Callable[[], int] | None = None
    """Finds out about when the last task ended, for a group that was found again."""
    _last_end_ms: int | None = None

    def __init__(self, session: Session, group_id: str, facts: TaskFacts) -> None:
        self.id = group_id
        self._session = session
        self._facts = facts
        self._state: GroupState[Outcome] = GroupState()
        self._futures: dict[int, TaskFuture[T]] = {}
        self._changed = SelectiveCondition()
        self._async_waiters = AsyncWaiters()
        self._callbacks: list[Callable[[TaskGroup[T]], object]] = []
        self._until: float | None = None
        self._cursor: Iterator[T] | None = None
        self._begun_ms = session.clock.now_ms()
        self._ended_ms: int | None = None
        session.task_groups[group_id] = self

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the tasks, in order."""
        return tuple(self._state.ids)

    @property
    def futures(self) -> Sequence[TaskFuture[T]]:
        """The futures of the tasks, in order; each is made when first asked for."""
        return Futures(self)

    def __len__(self) -> int:
        return len(self._state)

    @overload
    def __getitem__(self, index: int) -> TaskFuture[T]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TaskFuture[T]]: ...
    def __getitem__(self, index: int | slice) -> TaskFuture[T] | Sequence[TaskFuture[T]]:
        return self.futures[index]

    # --- Known without asking the store --------------------------------------------------------

    def counts(self) -> Counts:
        """Count the tasks that completed, failed and were cancelled, as far as is known here."""
        with self._changed:
            return self._state.counts()

    @property
    def done_count(self) -> int:
        """The number of tasks that have ended, in any state."""
        return len(self._state.ended)

    def done(self) -> bool:
        """True if all tasks are known to have ended."""
        if not self._state.is_done and self._resume is not None:
            self._resume()
        return self._state.is_done

    def on_progress(self, callback: Callable[[TaskGroup[T]], object]) -> None:
        """Call ``callback(group)`` whenever tasks have ended, once for all that end together.

        It runs in the thread that receives results, so it must be quick and wait for nothing.
        """
        with self._changed:
            self._callbacks.append(callback)

    # --- Waiting -------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[T]:
        """Yield the results in order. Raises the exception of the first task that failed."""
        return self._results(self._until)

    def __next__(self) -> T:
        # Other executors' map returns an iterator, so next(q.map(…)) has to work.
        if self._cursor is None:
            self._cursor = iter(self)
        return next(self._cursor)

    def _results(self, until: float | None) -> Iterator[T]:
        since = time.monotonic()
        for index in range(len(self)):
            yield self._value(self._wait_for_one(index, until, since))

    @overload
    def results(
        self, timeout: Duration | None = None, return_exceptions: Literal[False] = False
    ) -> list[T]: ...
    @overload
    def results(
        self, timeout: Duration | None = None, *, return_exceptions: bool
    ) -> list[T | Exception]: ...
    def results(
        self, timeout: Duration | None = None, return_exceptions: bool = False
    ) -> list[Any]:
        """Wait for all tasks, and return their results in order.

        ``timeout``: how long to wait in all, a duration. With ``return_exceptions`` the exception
        of a task that failed takes the place of its result; without, the first one in order is
        raised. Raises `TimeoutError` if tasks have not ended in time; they go on.

        This blocks. In a coroutine, or in a cell whose buttons should work meanwhile, write
        ``await g``; ``await asyncio.wait_for(g, 60)`` has a time-out, and
        ``await asyncio.gather(*g.futures, return_exceptions=True)`` returns the exceptions.
        """
        until = until_of(timeout)
        self._wait_until(EnoughEnded(self._state.outcomes, return_exceptions), until)
        found: list[Any] = Results()
        for index in range(len(self)):
            outcome = self._wait_for_one(index, until)
            value, error = outcome.load()
            if error is not None and not return_exceptions:
                raise error
            found.append(value if error is None else error)
        return found

    def as_completed(self, timeout: Duration | None = None) -> Completions[T]:
        """Iterate over the futures as their tasks end, with ``for`` or ``async for``.

        Raises `TimeoutError` if the next one has not ended in time, measured from this call.
        """
        return Completions(self, until_of(timeout))

    def wait(self, timeout: Duration | None = None) -> bool:
        """Wait until all tasks have ended; return False if the time is up before."""
        self._refuse_in_callback()
        return wait_shown(self, self._changed, self.done, seconds_of(timeout))

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._results_async().__await__()

    async def _results_async(self) -> list[T]:
        enough = EnoughEnded(self._state.outcomes, passes_failures=False)
        await awaited_shown(self, self._async_waiters.wait(self._changed, enough))
        return list(self.results(0))

    async def __aiter__(self) -> AsyncIterator[T]:
        since = time.monotonic()
        has_ended = self._state.has_ended
        for index in range(len(self)):
            await awaited_shown(
                self,
                self._async_waiters.wait(self._changed, partial(has_ended, index)),
                since,
            )
            yield self._value(self._wait_for_one(index, None))

    def _wait_for_one(self, index: int, until: float | None, since: float | None = None) -> Outcome:
        outcome = self._state.outcomes[index]
        if outcome is None:
            self._wait_until(lambda: self._state.has_ended(index), until, since)
            outcome = self._state.outcomes[index]
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
        found = self._obstacles()
        known = f" ({in_short(found)})" if found else ""
        stay = "stay in their queue" if found else "go on"
        return WaitTimeout(
            f"{left} of {len(self)} tasks have not ended yet{known}; they {stay}{advice(found)}"
        )

    def _refuse_in_callback(self) -> None:
        if self._session.listener.is_this_thread() and not self.done():
            raise RuntimeError(
                "a callback cannot wait for tasks: it runs in the thread that receives results"
            )

    @staticmethod
    def _value(outcome: Outcome) -> T:
        value, error = outcome.load()
        if error is not None:
            raise error
        result: T = value
        return result

    # --- Ending --------------------------------------------------------------------------------

    def cancel(self) -> int:
        """Cancel all tasks that have not ended; return how many are cancelled now.

        Workers of running tasks are asked to end them, which is waited for up to 2 seconds. Raises
        `StoreUnreachable`.
        """
        left = self._unended()
        answers = self._session.cancel(self.queue, left)
        state = self._state
        running = [state.index_of(i) for i, answer in answers.items() if answer == states.ACTIVE]
        if running and not self._session.listener.is_this_thread():
            with self._changed:
                wait_for(self._changed, lambda: all(map(state.has_ended, running)), CANCEL_SECONDS)
        with self._changed:
            outcomes = [state.outcomes[state.index_of(i)] for i in left]
        return sum(outcome is not None and outcome.is_cancelled for outcome in outcomes)

    def retry(self) -> BulkResult:
        """Run the tasks that failed again, with all their retries; see `Inspector.retry`.

        Cancelled ones are left alone. The group follows the others: `results` waits for their new
        ends, and futures and `as_completed` are to be asked for again. Raises `StoreUnreachable`.

        >>> g = q.group("sweep")            # doctest: +SKIP
        >>> g.retry()                       # doctest: +SKIP
        """
        return retry_failed(self)

    # --- Frames and pictures -------------------------------------------------------------------

    def frame(
        self,
        columns: Any = None,
        *,
        arguments: bool | Mapping[str, Any] = False,
        seconds: bool = False,
    ) -> DataFrame:
        """Return the tasks as they are now, a row for each, in the order of their arguments.

        The parameters are those of `Client.tasks`. `attempts` has a row for each attempt.

        >>> g.frame([..., "result"], arguments=True)
        """
        query = inspection.TaskQuery(columns=columns, arguments=arguments, seconds=seconds)
        return inspection.frames.group_tasks(self._session, self.queue, self._state.ids, query)

    def attempts(
        self,
        columns: Any = None,
        *,
        arguments: bool | Mapping[str, Any] = False,
        seconds: bool = False,
    ) -> DataFrame:
        """Return the finished attempts of the tasks as a DataFrame, oldest first.

        The parameters are those of `Client.attempts`.
        """
        query = inspection.AttemptQuery(columns=columns, arguments=arguments, seconds=seconds)
        # A minute earlier, as attempts may begin a moment before on a clock measured just now.
        return inspection.frames.group_attempts(
            self._session, self.queue, self._begun_ms - 60_000, self._state, query
        )

    @lists(TIMELINE_DEFAULTS)
    def timeline(self, **options: Unpack[TimelineKeywords]) -> Any:
        """Draw when and where the tasks ran; see `Client.timeline`."""
        return draw_timeline(self.attempts(columns="all"), options)

    # --- In a notebook -------------------------------------------------------------------------

    def _view(self) -> Any:
        return group_view(self)

    def _goes_on(self) -> str:
        return group_goes_on(self.name or self.type, self.name or self.id)

    def _end_time_ms(self) -> int:
        """Return when the last task ended (Unix ms), by the store: alike for all handles."""
        if self._last_end_ms is None:
            about_ms = self._ended_ms
            try:
                if about_ms is None and self._read_end_ms is not None:
                    about_ms = self._read_end_ms()
                about_ms = about_ms or self._session.clock.now_ms()
                self._last_end_ms = last_end_ms(self._session, self.queue, self._state, about_ms)
            except StoreError:
                return about_ms or self._session.clock.now_ms()
        return self._last_end_ms

    def _unended(self) -> list[str]:
        """Return the ids of tasks that are not known to have ended."""
        with self._changed:
            return self._state.unended()

    def _unended_by_queue(self) -> dict[str, list[str]]:
        return {self.queue: self._unended()}

    def _holds(self, queue: str, task_id: str) -> bool:
        return queue == self.queue and task_id in self._state

    def _has_ended(self, task_id: str) -> bool:
        return self._state.has_ended(self._state.index_of(task_id))

    def _failed_tasks(self, most: int) -> list[FailedTask]:
        """Return the first ``most`` tasks that failed, in the order of failing."""
        with self._changed:
            failures = self._state.failures(most)
        return [
            FailedTask(f"task {index}", self.queue, self._state.ids[index], error)
            for index, outcome in failures
            if (error := outcome.load()[1]) is not None
        ]

    # --- Called by the submitter, the listener and the futures -----------------------------------

    def _reopen(self, task_ids: Sequence[str]) -> None:
        """Wait again for tasks that were run again."""
        with self._changed:
            for task_id in task_ids:
                self._futures.pop(self._state.index_of(task_id), None)
            self._state.reopen(task_ids)
            self._ended_ms = self._last_end_ms = self._read_end_ms = None
        self._session.listener.watch_many(self.queue, task_ids, self)

    def _add(self, task_ids: Sequence[str]) -> None:
        with self._changed:
            self._state.add(task_ids)

    def _take(self, ends: Sequence[tuple[str, RawOutcome]]) -> None:
        how = self._session.keyring, self._facts.is_call, self._facts.is_json
        self._take_outcomes([(task_id, Outcome(task_id, end, *how)) for task_id, end in ends])

    def _take_outcomes(self, found: Sequence[tuple[str, Outcome]]) -> None:
        state, futures = self._state, self._futures
        with self._changed:
            ended = state.settle(found)
            settled = [(futures[i], state.outcomes[i]) for i in ended if i in futures]
            if ended and state.is_done:
                self._ended_ms = self._session.clock.now_ms()
            callbacks = list(self._callbacks)
            self._async_waiters.wake()
            self._changed.wake()
        for future, outcome in settled:
            assert outcome is not None
            future._settle(outcome)
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                _log.exception("on_progress of %r failed", self)

    def _notice(self, task_id: str, state: str) -> None:
        future = self._futures.get(self._state.index_of(task_id))
        if future is not None:
            future._notice(task_id, state)

    def _future_of(self, task_id: str) -> TaskFuture[T]:
        return self._future_at(self._state.index_of(task_id))

    def _future_at(self, index: int) -> TaskFuture[T]:
        with self._changed:
            future = self._futures.get(index)
            if future is None:
                name = f"{self.name}-{index}" if self.name else None
                facts = self._facts._replace(task_id=self._state.ids[index], name=name)
                future = self._futures[index] = TaskFuture(self._session, facts)
            outcome = self._state.outcomes[index]
        if outcome is not None:
            future._settle(outcome)
        return future

    def _inherit(self, resume: Callable[[], None]) -> bool:
        self._resume = resume
        self._changed = SelectiveCondition(InheritedLock(resume))
        # Coroutines that wait and callbacks are the parent's, which wakes and calls them.
        self._async_waiters = AsyncWaiters()
        self._callbacks = []
        self._state.recount()  # a thread of the parent may have been about to settle tasks
        is_awaited = False
        for index, future in self._futures.items():
            is_awaited |= future._inherit(resume)
            outcome = self._state.outcomes[index]
            if outcome is not None and not future._is_over():
                future._settle(outcome)
        return is_awaited

    def __reduce__(self) -> Any:
        raise TypeError("a TaskGroup cannot be pickled; list(g.futures) can")

    def __repr__(self) -> str:
        counts = self.counts()
        text = f"{counts.done} of {counts.total} done"
        for word in ("failed", "cancelled", "gone"):
            if number := getattr(counts, word):
                text += f", {number} {word}"
        left = counts.total - counts.done
        if left and self._state.is_done:
            text += f", {left} not followed any more as the client was closed"
        text += "" if self._is_complete else " (not complete)"
        why = in_short(self._obstacles())
        text += f": {why};" if why else ""
        return printable(f"<TaskGroup {self.name or self.type} {text} id={self.id}>")

    def _obstacle_watch(self) -> ObstacleWatch:
        return self._session.obstacles

    def _sample(self) -> Wanted:
        with self._changed:
            ids = self._state.sample_unended(_SAMPLE)
        return {self.queue: ids} if ids else {}
