"""`TaskFuture`: the handle of one task."""

from __future__ import annotations

import concurrent.futures
import sys
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nbqueue.client.cancelling.tasks_in_go import CANCEL_SECONDS, CANCELLABLE
from nbqueue.client.futures.awaited_workers import needed_by
from nbqueue.client.futures.outcome import GONE, Outcome, RawOutcome, end_of, gone
from nbqueue.client.futures.seen_state import SeenState
from nbqueue.client.futures.task_facts import TaskFacts
from nbqueue.client.futures.waits import AsyncWaiters, WaitTimeout, is_asked_by_asyncio, seconds_of
from nbqueue.client.live.display import awaited_shown, bundle_of, show_live, wait_shown
from nbqueue.durations import Duration
from nbqueue.moved_modules import pickled_as, public
from nbqueue.printable import visible
from nbqueue.wire import states

if TYPE_CHECKING:
    from nbqueue.client.futures.output import Output
    from nbqueue.client.futures.reported_progress import Progress
    from nbqueue.client.session import Session

T = TypeVar("T")


@public
class TaskFuture(concurrent.futures.Future[T]):
    """The handle of a task: a `concurrent.futures.Future` that can also be awaited and pickled.

    Made by `Client.submit`, `Client.get` and the members of a `TaskGroup`.

    >>> f = q.submit(fit, 0.1)
    >>> f.result()                          # doctest: +SKIP

    Ending a wait (Ctrl-C, the stop button, a time-out, ``asyncio.wait_for``, ``gather``) leaves
    the task running and the future usable; only `cancel` cancels. That holds for
    ``asyncio.wrap_future(f)`` too, whose cancellation reaches `cancel` and is ignored there.

    While the store is away, waits go on, up to their time-out. Callbacks run in the thread that
    receives results: a callback must not wait for another task.
    """

    def __init__(self, session: Session | None, about: TaskFacts, place: str = "") -> None:
        super().__init__()
        self._session = session
        self._about = about
        self._place = place
        self._outcome: Outcome | None = None
        self._seen = SeenState()
        self._is_cancelling = False
        self._attempt = 0
        self._progress: Progress | None = None
        self._async_waiters = AsyncWaiters()

    # --- What is known -------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The id of the task. ``q.get(id)`` finds it again, from any process."""
        return self._about.task_id

    @property
    def queue(self) -> str:
        """The name of its queue."""
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
    def state(self) -> str:
        """The state of the task: one of Asynq's words, or ``deleted``. Asks the store, unless that
        was done just now; while the store is away it is the state that was seen last."""
        if self._outcome is None:
            self._seen.look(self._session, self.queue, self.id, self._condition, self._is_over)
        outcome = self._outcome
        return (outcome.state if outcome is not None else "") or self._seen.state

    @property
    def attempt(self) -> int:
        """The last known number of the attempt, from 1; 0 if none is known to have begun."""
        return self._attempt

    @property
    def progress(self) -> Progress | None:
        """The last known bars and reports of the task, or None. `refresh` asks the store."""
        return self._progress

    def running(self) -> bool:
        """True if a worker is running the task. Asks the store, as `state` does."""
        return not self.done() and self.state == states.ACTIVE and not self.done()

    def refresh(self) -> TaskFuture[T]:
        """Ask the store for the task's state, attempt and progress; returns the future itself.

        Raises `StoreUnreachable`.
        """
        from nbqueue.client.futures.reported_progress import read_progress

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
        """What the task has found so far: the latest `nbqueue.report(result=…)`, from the store.

        None if it reported nothing, or is not in the store any more. Of a task that failed it is
        what it reported before, of one that completed the result. Raises `StoreUnreachable`, and
        `SignatureError` for a value that no holder of the signing key made.
        """
        from nbqueue.client.futures.json_results import reported_value

        about = self._about
        return reported_value(
            self._attached(), about.queue, about.task_id,
            is_call=about.is_call, is_json=about.is_json,
        )  # fmt: skip

    def output(self, attempt: int | None = None, follow: bool = False) -> Output:
        """What the task printed, logged and displayed, until now; a notebook replays it.

        ``attempt``: of which attempt; None: of the last one that put out anything. With ``follow``
        it is printed here as it comes, until the task has ended. It is kept for as long as the
        result, and for a week at least if the task failed. Raises `StoreUnreachable`.

        >>> f.output().text                 # doctest: +SKIP
        """
        from nbqueue.client.futures.output import follow_output, read_task_output

        if follow:
            follow_output(self._attached(), self)
        return read_task_output(self._attached(), self.queue, self.id, attempt)

    # --- Waiting -------------------------------------------------------------------------------

    def result(self, timeout: Duration | None = None) -> T:
        """Wait for the task to end, and return what its function returned.

        ``timeout``: how long to wait, a duration; without one, for as long as it takes.

        Raises what the function raised, with the traceback of the worker as its cause;
        `TimeoutError` if the task has not ended in time (it goes on); `TaskCancelled`,
        `TaskTimeout`, `WorkerLost` or `TaskNotFound` for a task that ended otherwise;
        `SignatureError` for a result that no holder of the signing key made.
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

        Raises `TaskCancelled` if it was cancelled, and `TimeoutError` as `result` does.
        """
        outcome = self._wait(timeout)
        error = outcome.load()[1]
        if outcome.is_cancelled and error is not None:
            raise error
        return error

    def _wait(self, timeout: Duration | None) -> Outcome:
        if not self.done():
            session = self._attached()
            if session.listener.is_this_thread():
                raise RuntimeError(
                    f"a callback of a future cannot wait for task {self.id}: it runs in the "
                    "thread that receives the results"
                )
            seconds = seconds_of(timeout)
            if seconds is None or seconds > 0:
                session.listener.lead(self._is_over)
            if not self._is_over() and not wait_shown(
                self, self._condition, self._is_over, seconds
            ):
                state, need = self.state, self._need()
                if not self._is_over():
                    known = f"{state}: {need}" if need else state
                    raise WaitTimeout(
                        f"task {self.id} has not ended yet (last known: {known}); it goes on"
                    )
        outcome = self._outcome
        assert outcome is not None
        return outcome

    def _is_over(self) -> bool:
        return self._state in ("FINISHED", "CANCELLED", "CANCELLED_AND_NOTIFIED")

    def done(self) -> bool:
        """True if the task is known to have ended."""
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
            await awaited_shown(self, self._async_waiters.wait(self._condition, self._is_over))
        return self.result(0)

    # --- Ending --------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the task. Returns whether it is cancelled now.

        A task that waits for its turn is archived at once. The worker of a running one is asked
        to end it, even one in Go, and is waited for up to 2 seconds; if it takes longer, the answer
        is False and the task may still become cancelled. Raises `StoreUnreachable`.
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
        """End in this thread, as the listener would do when it hears of it."""
        assert self._session is not None
        sink: Any = self._session.listener.claim(self.queue, self.id)
        # That of a group's task is the group, which tells us.
        (self if sink is None else sink)._take(((self.id, end),))

    def _take(self, ends: Sequence[tuple[str, RawOutcome]]) -> None:
        assert self._session is not None
        how = self._about.is_call, self._about.is_json
        for task_id, end in ends:
            if end.state == GONE and not self._about.is_call:
                end = gone(task_id, is_kept=self._about.is_kept, last_state=self._seen.state)
            self._settle(self._session.outcome(task_id, end, *how))

    def _notice(self, task_id: str, state: str) -> None:
        self._seen.note(state)
        if self._is_cancelling and state in CANCELLABLE and self._session is not None:
            # It ran in Go, which retries what was cancelled.
            answer = self._session.cancel(self.queue, (self.id,), running=False)[self.id]
            if isinstance(answer, RawOutcome):
                self._end_now(answer)

    def _settle(self, outcome: Outcome) -> None:
        """End with this outcome; the first counts."""
        with self._condition:
            if self._outcome is not None:
                return
            self._outcome = outcome
        # The base class wakes whoever waits, in whatever way; values are read from the outcome.
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
        # asyncio reads a finished future through this from Python 3.14 on.
        if not self.done():
            return False, False, None, None
        if self.cancelled():
            return True, True, None, None
        assert self._outcome is not None
        return (True, False, *self._outcome.load())

    # --- In a notebook -------------------------------------------------------------------------

    def show(self) -> None:
        """Show its card here, live until the task ends; elsewhere than in a notebook, its text.

        A future that is the last line of a cell does so by itself.
        """
        show_live(self)

    _ipython_display_ = show

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return bundle_of(self)

    def replay(self) -> T:
        """Run the task's call here, in this process, with the same code and arguments.

        What it raises, it raises here, with all its frames: ``%debug`` then looks into them. The
        task in the store is left as it is. Raises `TaskNotFound` if it, or its code, is gone,
        `UsageError` for a message, and `SignatureError` for what no holder of the key signed.
        """
        from nbqueue.client.futures.replay import replay

        __tracebackhide__ = True
        result: T = replay(self._attached(), self.queue, self.id)
        return result

    # --- Elsewhere -----------------------------------------------------------------------------

    def _attached(self) -> Session:
        """The session; for a future that came out of a pickle, that of a client found now."""
        if self._session is None:
            from nbqueue.client.session import session_at

            session = session_at(self._place)
            with self._condition:
                if self._session is not None:
                    return self._session
                self._session = session
            waiting = session.listener.watch(self.queue, self.id, self)
            if waiting is not None:
                _future_in(waiting, self.id).add_done_callback(self._follow)
        return self._session

    def __reduce__(self) -> tuple[Any, ...]:
        place = self._session.store.url.redacted if self._session is not None else self._place
        *about, is_kept = self._about
        return revive_kept if is_kept else revive, (place, *about)

    def __repr__(self) -> str:
        need = self._need()
        state = f"{self.state}: {need};" if need else self.state
        return visible(f"<TaskFuture {self.name or self.type} {state} id={self.id}>")

    def _need(self) -> str:
        """What it needs of a worker, if that is what it waits for."""
        is_scheduled = self.state == states.SCHEDULED
        return needed_by(self._session, self.queue, [self.id]) if is_scheduled else ""


class _Failed(Exception):
    """Stands, within the base class, for the exception that the outcome has."""


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
    """Make a future from what its pickle says: where the store is, and which task it is.

    Pickles hold no password and no key. The future attaches to an open client of that store, if
    this process has one; else, when it is first waited for, to a new one (see `session_at`).
    """
    return _revived(place, TaskFacts(task_id, queue, type, name, is_call, is_json))


@pickled_as("nbqueue.client.futures")
def revive_kept(place: str, *about: Any) -> TaskFuture[Any]:
    """Make the future of a message that has a retention, as `revive` does."""
    return _revived(place, TaskFacts(*about)._replace(is_kept=True))


def _revived(place: str, about: TaskFacts) -> TaskFuture[Any]:
    from nbqueue.client.session import open_session

    session = open_session(place)
    if session is None:
        return TaskFuture(None, about, place)
    return attach(session, about)


def attach(session: Session, about: TaskFacts) -> TaskFuture[Any]:
    """The future of a task that lies in the store: the one that waits for it, or a new one."""
    future: TaskFuture[Any] = TaskFuture(session, about)
    waiting = session.listener.watch(about.queue, about.task_id, future)
    return future if waiting is None else _future_in(waiting, about.task_id)


def _future_in(sink: Any, task_id: str) -> TaskFuture[Any]:
    """The future of a task in whoever waits for it: that future itself, or its group."""
    future: TaskFuture[Any] = sink if isinstance(sink, TaskFuture) else sink._future_of(task_id)
    return future
