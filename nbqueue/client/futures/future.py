"""`TaskFuture`: the handle of one task."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nbqueue.client.cancelling.tasks_in_go import CANCEL_SECONDS, CANCELLABLE
from nbqueue.client.futures.handle import TaskHandle
from nbqueue.client.futures.seen_state import SeenState
from nbqueue.client.futures.task_facts import TaskFacts
from nbqueue.client.futures.waits import AsyncWaiters, WaitTimeout, is_asked_by_asyncio, left_of
from nbqueue.client.live.display import (
    awaited_shown,
    interrupt_explained,
    task_view,
    wait_shown,
)
from nbqueue.client.live.interrupted_waits import task_goes_on
from nbqueue.client.live.task_snapshot import due_text
from nbqueue.client.obstacles.obstacle import advice, in_short
from nbqueue.client.results.json_results import reported_value
from nbqueue.client.results.outcome import GONE, Outcome, RawOutcome, end_of, gone
from nbqueue.client.results.output import Output, follow_output, read_task_output
from nbqueue.client.results.replay import replay_task
from nbqueue.client.results.reported_progress import Progress, read_progress
from nbqueue.client.session import Session, open_session, session_at
from nbqueue.durations import Duration
from nbqueue.moved_modules import pickled_as
from nbqueue.printable import printable
from nbqueue.runtime.forks import InheritedLock
from nbqueue.views.format import CANCELLED_TASK
from nbqueue.wire import states

if TYPE_CHECKING:
    from nbqueue.client.obstacles.obstacle_watch import Found, ObstacleWatch
    from nbqueue.client.obstacles.store_facts import Wanted

T = TypeVar("T")


@pickled_as("nbqueue.client.futures")
class TaskFuture(TaskHandle, concurrent.futures.Future[T]):
    """The handle of a task: a `concurrent.futures.Future` that can also be awaited and pickled.

    Returned by `Client.submit`, `Client.get` and the members of a `TaskGroup`.

    >>> f = q.submit(fit, 0.1)
    >>> f.result()                          # doctest: +SKIP

    Ending a wait (Ctrl-C, the stop button, a time-out, ``asyncio.wait_for``, ``gather``) leaves the
    task running and the future usable; only `cancel` cancels. That holds for
    ``asyncio.wrap_future(f)`` too: a cancellation of that wait is ignored.

    While the store cannot be reached, waits go on, up to their time-out. Callbacks run in the
    thread that receives results, so a callback must not wait for another task.
    """

    if TYPE_CHECKING:

        def _as_argument(self) -> T:
            """Make a future of a value an argument that the value is; see `Argument`."""

    def __init__(self, session: Session | None, facts: TaskFacts, place: str = "") -> None:
        super().__init__()
        self._session = session
        self._facts = facts
        self._place = place
        self._outcome: Outcome | None = None
        self._seen = SeenState()
        self._is_cancelling = False
        self._attempt = 0
        self._progress: Progress | None = None
        self._async_waiters: AsyncWaiters | None = None

    # --- What is known -------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The id of the task. ``q.get(id)`` finds it again, from any process."""
        return self._facts.task_id

    @property
    def state(self) -> str:
        """The state of the task: one of Asynq's states, or ``deleted``.

        Asks the store, unless it did so just now; without a connection it is the last known state.
        """
        if self._outcome is None:
            self._seen.look(self._session, self.queue, self.id, self._condition, self._is_over)
        outcome = self._outcome
        return (outcome.state if outcome is not None else "") or self._seen.state

    @property
    def attempt(self) -> int:
        """The number of the last known attempt, from 1; 0 before the first one."""
        return self._attempt

    @property
    def progress(self) -> Progress | None:
        """The last known progress of the task, or None; `refresh` asks the store."""
        return self._progress

    def running(self) -> bool:
        """True if a worker is running the task. Asks the store, as `state` does."""
        return not self.done() and self.state == states.ACTIVE and not self.done()

    def refresh(self) -> TaskFuture[T]:
        """Read state, attempt and progress from the store; return the future itself.

        Raises `StoreUnreachable`.
        """
        session = self._attached()
        self._progress = read_progress(session.broker, self.queue, self.id) or self._progress
        record = session.broker.find(self.id, self.queue)
        if record is not None:
            self._attempt = record.attempt
            self._seen.note(record.state)
        if not self.done() and (record is None or record.state in states.FINAL):
            self._end_now(end_of(record))
        return self

    def reported(self) -> Any:
        """Read the latest partial result, which the task gave to `nbqueue.report`.

        None if it reported none, or is no longer in the store. For a task that failed it is the
        last one reported before, for one that completed the result. Raises `StoreUnreachable`, and
        `SignatureError` for a value that was not signed with the key.
        """
        about = self._facts
        return reported_value(
            self._attached(), about.queue, about.task_id,
            is_call=about.is_call, is_json=about.is_json,
        )  # fmt: skip

    def output(self, attempt: int | None = None, follow: bool = False) -> Output:
        """Read what the task has printed, logged and displayed so far; a notebook replays it.

        ``attempt``: the number of an attempt; by default the last one that has output. With
        ``follow`` it is printed here as it comes, until the task has ended. Output is kept for as
        long as the result, and for a week at least if the task failed. Raises `StoreUnreachable`.

        >>> f.output().text                 # doctest: +SKIP
        """
        if follow:
            with interrupt_explained(self):
                follow_output(self._attached(), self)
        return read_task_output(self._attached(), self.queue, self.id, attempt)

    # --- Waiting -------------------------------------------------------------------------------

    def result(self, timeout: Duration | None = None) -> T:
        """Wait for the task to end, and return what its function returned.

        ``timeout``: how long to wait, a duration; by default for as long as it takes. A negative
        number is over, as with other futures.

        Raises the exception of the function, with the traceback of the worker as its cause;
        `TimeoutError` if the task has not ended in time (it keeps running); `TaskCancelled`,
        `TaskTimeout`, `WorkerLost` or `TaskNotFound` for a task that ended otherwise;
        `SignatureError` for a result that was not signed with the key.
        """
        value, error = self._wait(timeout).load()
        if error is not None:
            try:
                raise error
            finally:
                del self, error  # else the exception, its frames and the future hold each other
        result: T = value
        return result

    def exception(self, timeout: Duration | None = None) -> BaseException | None:
        """Wait for the task to end, and return its exception, or None if it completed.

        Raises `TaskCancelled` if the task was cancelled, and `TimeoutError` if it has not ended.
        """
        outcome = self._wait(timeout)
        error = outcome.load()[1]
        if outcome.is_cancelled and error is not None:
            raise error
        return error

    def _wait(self, timeout: Duration | None) -> Outcome:
        if not self.done():
            listener = self._attached().listener
            if listener.is_this_thread():
                raise RuntimeError(
                    f"a callback of a future cannot wait for task {self.id}: it runs in the "
                    "thread that receives the results"
                )
            seconds = left_of(timeout)
            if seconds is None or seconds > 0:
                listener.inline_read.read_until(self._is_over)
            if not self._is_over() and not wait_shown(
                self, self._condition, self._is_over, seconds
            ):
                state, found = self.state, self._obstacles()
                if not self._is_over():
                    known = f"{state}: {in_short(found)}" if found else state
                    stays = "stays in its queue" if found else "goes on"
                    raise WaitTimeout(
                        f"task {self.id} has not ended yet (last known: {known}); it {stays}"
                        f"{advice(found)}"
                    )
        outcome = self._outcome
        assert outcome is not None
        return outcome

    def _is_over(self) -> bool:
        return self._state in ("FINISHED", "CANCELLED", "CANCELLED_AND_NOTIFIED")

    def done(self) -> bool:
        """True if the task is known to have ended."""
        if not self._is_over() and self._resume is not None:
            self._resume()
        return self._is_over()

    def add_done_callback(self, fn: Callable[[TaskFuture[T]], object]) -> None:
        """Call ``fn(future)`` when the task has ended, in the thread that receives results."""
        if not self.done():
            self._attached()
        super().add_done_callback(fn)  # type: ignore[arg-type]

    def __await__(self) -> Generator[Any, None, T]:
        return self._result_async().__await__()

    async def _result_async(self) -> T:
        if not self.done():
            self._attached()
            with self._condition:
                if self._async_waiters is None:
                    self._async_waiters = AsyncWaiters()
            waiters = self._async_waiters
            await awaited_shown(self, waiters.wait(self._condition, self._is_over))
        return self.result(0)

    # --- Ending --------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the task; return whether it is cancelled now.

        A task that does not run yet is archived at once. The worker of a running one, in Python or
        Go, is asked to end it, which is waited for up to 2 seconds; after that the answer is False
        and the task may still become cancelled. Raises `StoreUnreachable`.
        """
        if self.done() or is_asked_by_asyncio(sys._getframe(1)):
            return self.cancelled()
        session = self._attached()
        answer = session.cancel(self.queue, (self.id,))[self.id]
        if isinstance(answer, RawOutcome):
            self._end_now(answer)
        elif answer == states.ACTIVE:
            self._seen.note(answer)
            self._is_cancelling = True
            if not session.listener.is_this_thread():
                with self._condition:
                    self._condition.wait_for(self._is_over, CANCEL_SECONDS)
        else:
            self.refresh()
        return self.cancelled()

    def cancelled(self) -> bool:
        """True if the task is known to have been cancelled."""
        return self._state in ("CANCELLED", "CANCELLED_AND_NOTIFIED")

    def _end_now(self, end: RawOutcome) -> None:
        """Settle in this thread, in place of the listener."""
        assert self._session is not None
        sink: Any = self._session.listener.claim(self.queue, self.id)
        # The sink of a group's task is the group, which settles this future.
        (self if sink is None else sink)._take(((self.id, end),))

    def _take(self, ends: Sequence[tuple[str, RawOutcome]]) -> None:
        assert self._session is not None
        keyring, about = self._session.keyring, self._facts
        for task_id, end in ends:
            if end.state == GONE and not about.is_call:
                end = gone(task_id, is_kept=about.is_kept, last_state=self._seen.state)
            self._settle(Outcome(task_id, end, keyring, about.is_call, about.is_json))

    def _notice(self, task_id: str, state: str) -> None:
        self._seen.note(state)
        if self._is_cancelling and state in CANCELLABLE and self._session is not None:
            # It ran in Go, which retries cancelled tasks.
            answer = self._session.cancel(self.queue, (self.id,), running=False)[self.id]
            if isinstance(answer, RawOutcome):
                self._end_now(answer)

    def _settle(self, outcome: Outcome) -> None:
        """End with this outcome, unless there is one already."""
        with self._condition:
            if self._outcome is not None:
                return
            self._outcome = outcome
        # The base class wakes all kinds of waits; values are read from the outcome.
        if outcome.is_cancelled:
            super().cancel()
            self.set_running_or_notify_cancel()
        elif outcome.is_failed:
            self.set_exception(_FAILED)
        else:
            self.set_result(None)  # type: ignore[arg-type]
        if self._async_waiters:
            with self._condition:
                self._async_waiters.wake()

    def _follow(self, other: TaskFuture[T]) -> None:
        if other._outcome is not None:
            self._settle(other._outcome)

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        # From Python 3.14 on asyncio reads a finished future with this method.
        if not self.done():
            return False, False, None, None
        if self.cancelled():
            return True, True, None, None
        assert self._outcome is not None
        return (True, False, *self._outcome.load())

    # --- In a notebook -------------------------------------------------------------------------

    def _view(self) -> Any:
        return task_view(self)

    def _next_run(self) -> TaskFuture[T]:
        """Return a future of the task after it was run again."""
        return attach(self._attached(), self._facts)

    def _goes_on(self) -> str:
        return task_goes_on(self.name or self.type, self.id)

    def replay(self) -> T:
        """Run the call of the task in this process, with its code and arguments.

        An exception is raised here with all its frames, so ``%debug`` can inspect them. The task
        in the store stays as it is. Raises `TaskNotFound` if the task or its code is gone,
        `UsageError` for a message, and `SignatureError` if it was not signed with the key.
        """
        __tracebackhide__ = True
        result: T = replay_task(self._attached(), self.queue, self.id)
        return result

    # --- Elsewhere -----------------------------------------------------------------------------

    def _attached(self) -> Session:
        """Return the session; a future that was unpickled gets that of an open or new client."""
        if self._session is None:
            session = session_at(self._place)
            with self._condition:
                if self._session is not None:
                    return self._session
                self._session = session
            waiting = session.listener.watch(self.queue, self.id, self)
            if waiting is not None:
                future_in(waiting, self.id).add_done_callback(self._follow)
        return self._session

    def _inherit(self, resume: Callable[[], None]) -> bool:
        self._resume = resume
        self._condition = threading.Condition(InheritedLock(resume))  # type: ignore[arg-type]
        # Coroutines that wait and callbacks are the parent's, which wakes and calls them.
        self._async_waiters = None
        callbacks: list[Any] = vars(self)["_done_callbacks"]
        owners = [getattr(callback, "__self__", None) for callback in callbacks]
        followers = [each for each in owners if isinstance(each, TaskFuture) and each is not self]
        callbacks[:] = [each._follow for each in followers]
        for follower in followers:
            follower._inherit(resume)
        if not self._is_over():
            self._outcome = None  # a thread of the parent was about to settle it
        return bool(vars(self)["_waiters"])

    def __reduce__(self) -> tuple[Any, ...]:
        place = self._session.store.url.redacted if self._session is not None else self._place
        *about, is_kept = self._facts
        return revive_kept if is_kept else revive, (place, *about)

    def __repr__(self) -> str:
        state, why = self.state, in_short(self._obstacles())
        if self.cancelled():
            state = CANCELLED_TASK
        elif not why and state in (states.SCHEDULED, states.RETRY) and self._session is not None:
            why = due_text(self._session, self.queue, self.id)
        state = f"{state}: {why};" if why else state
        return printable(f"<TaskFuture {self.name or self.type} {state} id={self.id}>")

    def _obstacle_watch(self) -> ObstacleWatch:
        return self._attached().obstacles

    def _sample(self) -> Wanted:
        return {} if self._is_over() else {self.queue: [self.id]}

    def _obstacles(self) -> Found:
        session, state = self._session, self._seen.state
        if session is None or not session.is_open or self._is_over():
            return ()
        # What holds for the queue holds for a pending task, and is known from one read.
        ids = [] if state == states.PENDING else [self.id]
        return session.obstacles.look({self.queue: ids})


class _Failed(Exception):
    """The placeholder in the base class for the exception of the outcome."""


_FAILED = _Failed()


@pickled_as("nbqueue.client.futures")
def revive(
    place: str,
    task_id: str,
    queue: str,
    type: str,
    name: str | None,
    is_call: bool,
    is_json: bool = False,
) -> TaskFuture[Any]:
    """Make a future from its pickle: the URL of the store and the task's facts.

    Pickles hold no password and no key. The future attaches to an open client of that store, if
    this process has one; otherwise to a new one when it is first waited for (see `session_at`).
    """
    return _revived(place, TaskFacts(task_id, queue, type, name, is_call, is_json))


@pickled_as("nbqueue.client.futures")
def revive_kept(place: str, *about: Any) -> TaskFuture[Any]:
    """Make the future of a message that has a retention from its pickle; see `revive`."""
    return _revived(place, TaskFacts(*about)._replace(is_kept=True))


def _revived(place: str, about: TaskFacts) -> TaskFuture[Any]:
    session = open_session(place)
    if session is None:
        return TaskFuture(None, about, place)
    return attach(session, about)


def attach(session: Session, about: TaskFacts) -> TaskFuture[Any]:
    """Return the future of a task in the store.

    It is one that already waits for the task, or a new one.
    """
    future: TaskFuture[Any] = TaskFuture(session, about)
    waiting = session.listener.watch(about.queue, about.task_id, future)
    return future if waiting is None else future_in(waiting, about.task_id)


def future_in(sink: Any, task_id: str) -> TaskFuture[Any]:
    """Return the future of a task from its sink, a future or a group."""
    future: TaskFuture[Any] = sink if isinstance(sink, TaskFuture) else sink._future_of(task_id)
    return future
