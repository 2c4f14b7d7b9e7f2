"""`Client`: submits tasks to a store, and finds, shows and changes what is in it."""

from __future__ import annotations

import concurrent.futures
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from nbqueue.calls.keys.signing import Keyring
from nbqueue.client import inspection, obstacles, schedules
from nbqueue.client.futures.find_task import find_task
from nbqueue.client.futures.future import TaskFuture
from nbqueue.client.futures.group import TaskGroup
from nbqueue.client.inspection.plots import TIMELINE_DEFAULTS, Plots, draw_timeline
from nbqueue.client.inspection.where_keywords import WHERE_DEFAULTS
from nbqueue.client.obstacles.obstacle import in_short
from nbqueue.client.session import CAPTURED_LIMIT, Session, new_session
from nbqueue.client.submitting import stored_handlers
from nbqueue.client.submitting.option_keywords import (
    OPTION_DEFAULTS,
    SCHEDULE_DEFAULTS,
    OptionKeywords,
    ScheduleKeywords,
)
from nbqueue.client.submitting.signatures import typed_map, typed_submit
from nbqueue.client.submitting.submitter import Submitter, TaskFunction
from nbqueue.client.task_groups.attaching import group_of
from nbqueue.client.task_groups.counting import list_groups
from nbqueue.client.task_groups.stored_groups import get_record
from nbqueue.durations import Duration
from nbqueue.errors import UsageError
from nbqueue.keywords import lists
from nbqueue.limits import Limit
from nbqueue.options import TaskOptions
from nbqueue.printable import printable, shown
from nbqueue.sizes import Size
from nbqueue.tasks.task import Task

if TYPE_CHECKING:
    from pandas import DataFrame
    from typing_extensions import Unpack

    from nbqueue.client.inspection import BulkActions, BulkResult, Inspector
    from nbqueue.client.inspection.plots import TimelineKeywords
    from nbqueue.client.inspection.where_keywords import TaskWhere
    from nbqueue.client.schedules import Schedule

P = ParamSpec("P")
T = TypeVar("T")


def connect(
    url: str | None = None,
    *,
    key: str | bytes | Keyring | None = None,
    captured_limit: Size | None = CAPTURED_LIMIT,
    durability: Literal["fsync", "replicated"] | None = None,
) -> Client:
    """Connect to a store and return a `Client`.

    ``url``: the store (``redis://…``, ``rediss://…``, ``unix://…``, ``embedded://…``); by default
    ``NBQUEUE_URL``, else the embedded store of this project, which is started if it does not run.
    ``key``: the signing key, in the form of ``NBQUEUE_KEY`` (text), or 32 bytes; by default
    ``NBQUEUE_KEY``, else the key file of the store. ``captured_limit``: the most that a function
    may capture (globals, closures, defaults, attributes), a size such as ``"16MB"``, or None for no
    limit; from 1 MB on there is a `LargeCaptureWarning`. ``durability``: a submit returns only
    once the task is on the store's disk (``"fsync"``) or on a replica (``"replicated"``); see
    docs/durability.md.

    >>> q = nbqueue.connect()
    >>> q.submit(sum, [1, 2, 3]).result()
    6

    Raises `InvalidURL`, `StoreUnreachable`, `StoreDenied` (a wrong password), `StoreUnsuitable`
    (older than Redis 6.2), `NoEmbeddedServer`, `UsageError` for a key that cannot be used, and
    `NoSigningKey` in a task whose worker has its key from ``NBQUEUE_KEY``.
    Warns if the server may evict keys.
    """
    client = Client(new_session(url, key, captured_limit, durability))
    _offer_completion()
    return client


def _offer_completion() -> None:
    """Have Tab complete names of the store, if this is a shell of IPython."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_shell() if get_shell is not None else None
    if not hasattr(shell, "Completer"):
        return
    from nbqueue.notebook.string_completion import offer_names  # only where there is a shell

    with suppress(Exception):  # another shell than IPython's own
        offer_names(shell)


class Client(concurrent.futures.Executor):
    """Submits tasks to one store and finds them again; made by `connect`.

    It is a `concurrent.futures.Executor`, so it can be used wherever one is expected
    (``loop.run_in_executor(q, fn)``, back ends of scikit-learn and others). It is thread-safe.

    As a context manager it waits at the end for the tasks that it submitted, as every executor
    does. A client that goes out of scope waits for nothing: its tasks go on.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._default = Submitter(session, {})

    @property
    def url(self) -> str:
        """The URL of the store, with passwords as ``***``."""
        return self._session.store.url.redacted

    @cached_property
    def _actions(self) -> BulkActions:
        return inspection.BulkActions(self._session)

    # --- Submitting ----------------------------------------------------------------------------

    @typed_submit
    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> TaskFuture[T]:
        """Run ``fn(*args, **kwargs)`` on a worker, and return its future at once.

        The function is sent as it is now, with the code of the notebook and of local modules that
        it uses. By default its result is kept for a day, there is no time-out, errors are not
        retried, and if its worker dies it runs again; `options` changes this.

        >>> f = q.submit(fit, lr=0.1)
        >>> f.result()                      # doctest: +SKIP

        Raises `TypeError` for arguments that the function does not take, unless it is an installed
        one; `CannotPickle`, which names what cannot be sent; `ValueTooLarge` for a function that
        captures more than `connect` allows; `StoreUnreachable` if the store does not answer for
        more than 10 seconds; its subclass `SubmitUnconfirmed`, with the task's id, if the store may
        have the task; `RuntimeError` after `shutdown`.
        """
        return self._default.submit(fn, *args, **kwargs)

    @typed_map
    def map(  # type: ignore[override]  # an Executor checks no arguments
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: Duration | None = None,
        chunksize: int = 1,
    ) -> TaskGroup[T]:
        """Run ``fn`` on workers for each set of arguments, and return a group of tasks.

        Iterating over the group gives the results in order. The function is pickled once. As with
        the builtin ``map``, the shortest of ``iterables`` ends it. ``timeout`` limits, from now,
        the iteration over the group and not the tasks (`options` has a time-out for these);
        ``chunksize`` exists for other executors' sake and is ignored.

        >>> for score in q.map(fit, grid): ...

        Raises the exceptions of `submit`; then the tasks enqueued so far are cancelled.
        """
        return self._default.map(fn, *iterables, timeout=timeout, chunksize=chunksize)

    @lists(OPTION_DEFAULTS)
    def enqueue(
        self, type: str, payload: Any = None, **options: Unpack[OptionKeywords]
    ) -> TaskFuture[Any]:
        """Enqueue a message: a task that the handlers of its ``type`` run, in Python or Go.

        ``payload`` is sent unchanged if it is bytes, as UTF-8 if it is text, and as one line of
        JSON otherwise; None is no payload. ``options``: see `options`. The defaults are Asynq's: 25
        retries, half an hour for an attempt unless there is a deadline, and deleted when done
        (``retention`` 0).

        The result of the future is what the handler returned: a JSON value, or bytes that are not
        JSON; None if the message was deleted when it was done. With ``group=`` the message waits to
        be aggregated, and the result is the id of the task that it became a part of.

        >>> q.enqueue("email:deliver", {"user": 1}, queue="critical", delay="5m")

        Raises `UsageError` for a payload that JSON cannot hold, an empty type, or a wrong option;
        `TaskIdConflict`, `StoreUnreachable`.
        """
        return self._default.enqueue(type, payload, **options)

    @lists({"id": None}, SCHEDULE_DEFAULTS, OPTION_DEFAULTS)
    def schedule(
        self,
        fn: Callable[..., Any],
        spec: str,
        *,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **settings: Unpack[ScheduleKeywords],
    ) -> Schedule:
        """Run ``fn(*args, **kwargs)`` on a worker whenever ``spec`` is due; return a `Schedule`.

        ``spec``: ``"*/5 * * * *"`` (minute, hour, day of month, month, day of week), ``"@every
        30s"``, ``"@hourly"``, …; see docs/schedules.md. ``settings``: ``id`` (replaces another
        schedule of this id in the queue; default: the function's name, with a digest of the
        arguments), ``tz``, ``missed`` (``"once"``, ``"skip"`` or ``"all"`` of the runs for which
        there was no worker), ``overlap`` (False: not while the last run is unfinished), ``jitter``
        (a duration), ``start``, ``until`` (datetimes), ``max_runs``; and the options of a task. The
        schedule is stored until `Schedule.remove` is called.

        >>> q.schedule(report, "0 7 * * mon-fri", tz="Europe/Paris", id="report", retry=3)

        Raises `UsageError`, which explains what is wrong with ``spec``; `CannotPickle`.
        """
        return self._default.schedule(fn, spec, args=args, kwargs=kwargs, **settings)

    @lists({"id": None}, SCHEDULE_DEFAULTS, OPTION_DEFAULTS)
    def schedule_message(
        self,
        type: str,
        payload: Any = None,
        spec: str = "",
        **settings: Unpack[ScheduleKeywords],
    ) -> Schedule:
        """Enqueue a message whenever ``spec`` is due; see `schedule` and `enqueue`.

        >>> q.schedule_message("email:digest", {"to": "all"}, "@daily", tz="Europe/Paris")
        """
        return self._default.schedule_message(type, payload, spec, **settings)

    @lists(OPTION_DEFAULTS, described_by=TaskOptions)
    def options(self, **options: Unpack[OptionKeywords]) -> Submitter:
        """Return a `Submitter` whose tasks have these options.

        >>> q.options(queue="critical", retry=5, timeout="10m").submit(fit, 0.1)

        Raises `UsageError` for unknown options and for values that cannot be right.
        """
        return self._default.options(**options)

    @overload
    def task(self, fn: Callable[P, T], /) -> TaskFunction[P, T]: ...
    @overload
    def task(
        self, /, **options: Unpack[OptionKeywords]
    ) -> Callable[[Callable[P, T]], TaskFunction[P, T]]: ...
    @lists(OPTION_DEFAULTS)
    def task(
        self, fn: Callable[..., Any] | None = None, /, **options: Unpack[OptionKeywords]
    ) -> Any:
        """Decorate a function so that it has ``submit``, ``map``, ``schedule`` and ``options``.

        >>> @q.task(queue="gpu", retry=3)
        ... def fit(lr): ...
        >>> fit(0.1)                        # runs here
        >>> fit.submit(0.1)                 # runs on a worker
        """
        Submitter(self._session, options)  # raises here if options are wrong
        if fn is not None and not callable(fn):
            raise UsageError(
                f"{shown(fn)} is no function: decorate one with @q.task, or find a task with q.get"
            )
        if fn is not None:
            return TaskFunction(self._session, fn, options)
        return lambda fn: TaskFunction(self._session, fn, options)

    # --- Serving -------------------------------------------------------------------------------

    def serve(
        self,
        pattern: str,
        fn: Callable[[Task], Any] | None = None,
        *,
        queue: str = "default",
    ) -> Any:
        """Make ``fn`` the handler of messages of type ``pattern`` on all workers of ``queue``.

        The handler is signed and stored: running workers use it at once, later ones find it in the
        store, and serving another one replaces it. An exact match goes first, then the longest
        pattern with which the type begins. ``fn`` takes a `Task` and may be a coroutine function;
        see `Worker.handle`. Without ``fn`` it is a decorator.

        >>> @q.serve("email:")
        ... def deliver(task): ...

        Raises `CannotPickle`, `UsageError` for a blank pattern, `StoreUnreachable`.
        """
        if fn is None:
            return lambda fn: self.serve(pattern, fn, queue=queue)
        stored_handlers.serve(self._session, pattern, fn, queue)
        return fn

    def unserve(self, pattern: str, *, queue: str = "default") -> bool:
        """Remove a handler that `serve` stored; return whether there was one."""
        return stored_handlers.unserve(self._session, pattern, queue)

    # --- Finding -------------------------------------------------------------------------------

    def get(self, task_id_or_name: str) -> TaskFuture[Any]:
        """Find a task by id or name, after a restart or from another machine.

        >>> q.options(name="train").submit(train)
        >>> q.get("train").result()         # later, elsewhere  # doctest: +SKIP

        An id goes before a name; of several tasks with the name it is the newest one. The tasks of
        a group with a name are found as ``"<name>-<position>"``, from 0; `group` finds the group.
        Raises `TaskNotFound` if there is no such task, or not any more.
        """
        return find_task(self._session, task_id_or_name)

    def group(self, group_id_or_name: str) -> TaskGroup[Any]:
        """Find a task group by id or name, after a restart or from another machine.

        >>> q.options(name="sweep").map(fit, grid)
        >>> g = q.group("sweep")            # later, elsewhere
        >>> g.retry()                       # what failed  # doctest: +SKIP

        It has the tasks of the map in their order, follows those that have not ended, and knows how
        the others did. Tasks that are no longer in the store count as ``gone``. An id goes before a
        name; of several groups with the name it is the newest one. Raises `TaskGroupNotFound`,
        which names similar ones.
        """
        self._session.check_open()
        return group_of(self._session, get_record(self._session, group_id_or_name))

    @property
    def inspector(self) -> Inspector:
        """The `Inspector` of the store, for looking into queues and moving tasks by hand.

        >>> q.inspector.pause("default")
        """
        return inspection.Inspector(self._session)

    def panel(
        self,
        *,
        tab: str = "Queues",
        queues: Sequence[str] | None = None,
        read_only: bool = False,
    ) -> Any:
        """Return a live panel of everything in the store, as the output of a cell.

        ``tab``: the tab to open first (Queues, Tasks, Groups, Workers, Schedules, Timeline or
        History); ``queues``: only these; ``read_only``: without buttons that change something.

        Raises `UsageError`.
        """
        from nbqueue.notebook.panel.panel import Panel  # heavy, and only for notebooks

        return Panel(self, tab=tab, queues=queues, read_only=read_only)

    def _repr_html_(self) -> str:
        return str(inspection.client_html(self._session))

    def wait_for_workers(
        self, n: int = 1, timeout: Duration | None = None, *, queue: str = "default"
    ) -> int:
        """Wait until ``n`` workers take tasks of ``queue``; return how many do.

        ``timeout``: how long at most, a duration; by default for as long as it takes. Workers of
        nbqueue are noticed at once, those in Go within a second.

        >>> q.wait_for_workers(2, timeout="1m", queue="gpu")    # doctest: +SKIP

        Raises `TimeoutError`, with the reason why there are not as many; `StoreUnreachable`.
        """
        return obstacles.wait_for_workers(self._session, n, timeout, queue)

    # --- Frames and pictures -------------------------------------------------------------------

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
        arguments: bool | Mapping[str, Any] = False,
        seconds: bool = False,
    ) -> DataFrame:
        """Return the tasks in the store as a DataFrame indexed by ``task_id``, oldest first.

        ``state``, ``queue`` and ``type``: only these; ``*`` in a type or a queue stands for any
        characters. ``since``: only tasks that changed within this last while (a duration), or after
        a moment (a timezone-aware datetime). ``ids``: only these tasks (ids, futures, a group, a
        frame). ``name``: only the newest of exactly this name, or the tasks of the group with this
        name. ``error``: text that the last error contains. ``limit``: only the newest so many.

        ``arguments``: True adds a column ``arg.<name>`` for each parameter of the functions, with
        their defaults, and for each key of the JSON payload of messages; values by name also choose
        the tasks that were called with these. If some cannot be read, a column ``fault`` says why.

        ``columns``: ``"all"``, or these, where ``...`` stands for the usual ones; ``payload``,
        ``arguments``, ``headers``, ``retention``, ``result`` and ``exception`` are there only when
        asked for. ``seconds``: durations as numbers of seconds, not as ``timedelta64[ns]``. See
        ``docs/frames.md`` for what each column holds.

        >>> q.tasks(state="archived", since="1h")
        >>> q.tasks(columns=[..., "result"], arguments={"lr": 0.1})

        Raises `UsageError` for what makes no sense, `StoreUnreachable`.
        """
        query = inspection.TaskQuery(
            state, queue, type, since, ids, limit, columns, name, error, arguments, seconds
        )
        return inspection.frames.tasks(self._session, query)

    def attempts(
        self,
        since: Duration | datetime | None = None,
        limit: int | None = None,
        *,
        queue: str | Iterable[str] | None = None,
        type: str | Iterable[str] | None = None,
        columns: Any = None,
        arguments: bool | Mapping[str, Any] = False,
        seconds: bool = False,
    ) -> DataFrame:
        """Return the finished attempts of all queues as a DataFrame, oldest first.

        ``since``: only those that finished within this last while (a duration), or after a moment
        (a timezone-aware datetime). ``limit``: only the newest so many. ``queue``, ``type``,
        ``columns``, ``arguments`` and ``seconds`` are those of `tasks`; arguments are known while
        the task is in the store.

        >>> q.attempts(since="1h", type="load_*", columns="all")

        Raises `UsageError` for what makes no sense, `StoreUnreachable`.
        """
        query = inspection.AttemptQuery(since, limit, queue, type, columns, arguments, seconds)
        return inspection.frames.attempts(self._session, query)

    def queues(self) -> DataFrame:
        """Return the queues as they are now, as a DataFrame indexed by ``queue``.

        >>> q.queues()[["pending", "active", "latency"]]
        """
        return inspection.frames.queues(self._session)

    def groups(self) -> DataFrame:
        """Return the task groups in the store as a DataFrame indexed by ``id``, oldest first.

        ``total``, ``done``, ``failed`` and ``cancelled`` count tasks; ``done`` are those that have
        ended in any state, also if they are no longer in the store. ``by`` is who made the group
        and where, ``complete`` is False while its map runs, and if that was cut off. ``estimated``
        says that the counts are from some of its tasks, as they would take too long to count.

        >>> q.groups()[["name", "done", "total", "failed"]]
        """
        return inspection.frames.groups(self._session, list_groups(self._session))

    def workers(self) -> DataFrame:
        """Return the workers that reported lately, of nbqueue and in Go, indexed by ``worker``."""
        return inspection.frames.workers(self._session)

    def schedules(self, queue: str | None = None) -> DataFrame:
        """Return the schedules of all queues, or of one, as a DataFrame indexed by ``id``.

        `Inspector.schedules` has their handles, with which to act on them.

        >>> q.schedules()[["spec", "next_at", "paused"]]
        """
        return inspection.frames.schedules(
            self._session, schedules.list_schedules(self._session, queue).rows()
        )

    def stats(
        self, days: float = 7, by: str = "queue", *, queue: str | Iterable[str] | None = None
    ) -> DataFrame:
        """Return the number, success and speed of attempts, indexed by ``by``.

        Covers the last ``days``.

        ``by``: ``"queue"``, ``"type"``, ``"worker"``, ``"hour"`` or ``"day"`` (UTC). All from the
        finished attempts, which are kept for 7 days; days also from Asynq's counters, which include
        what programs in Go did and are kept for 90 days.

        >>> q.stats(by="type").sort_values("duration_p95")
        """
        return inspection.frames.stats(self._session, days, by, queue)

    @lists(TIMELINE_DEFAULTS)
    def timeline(
        self,
        since: Duration | datetime | None = None,
        limit: int | None = None,
        **options: Unpack[TimelineKeywords],
    ) -> Any:
        """Draw which task ran when, and where; see `nbqueue.views.plots.timeline.timeline`.

        ``since`` and ``limit`` choose attempts as in `attempts`. ``by="task"`` has a lane for each
        task instead of each slot of a worker; ``ax`` and ``title`` are those of the figure of
        matplotlib that is returned. ``format="trace"`` returns Chrome's trace events instead, as
        JSON for https://ui.perfetto.dev.
        """
        return draw_timeline(self.attempts(since, limit, columns="all"), options)

    @cached_property
    def plot(self) -> Plots:
        """Plots of the attempts: ``throughput()``, ``latency()``, ``durations()``, ``failures()``.

        >>> q.plot.throughput(since="1h")
        """
        return Plots(self.attempts)

    # --- Actions on tasks ----------------------------------------------------------------------

    @lists(WHERE_DEFAULTS)
    def retry(self, selection: Any = None, **where: Unpack[TaskWhere]) -> BulkResult:
        """Run tasks again, with all of their retries.

        Takes rows of a frame, ids, futures, or a filter; completed tasks run again as well, if they
        are among them. Of a group only what failed runs again, as with `TaskGroup.retry`;
        ``q.retry(g.futures)`` runs all of its tasks.

        >>> df = q.tasks(state="archived")
        >>> q.retry(df[df.error.str.contains("timeout")])

        See `Inspector` for what can be passed, and for what is raised.
        """
        return self._actions.retry(selection, **where)

    @lists(WHERE_DEFAULTS)
    def run(
        self, selection: Any = None, *, reset: bool = False, **where: Unpack[TaskWhere]
    ) -> BulkResult:
        """Make tasks run as soon as it is their turn; see `Inspector.run`."""
        return self._actions.run(selection, reset=reset, **where)

    @lists(WHERE_DEFAULTS)
    def cancel(self, selection: Any = None, **where: Unpack[TaskWhere]) -> BulkResult:
        """Cancel tasks, whatever their state; see `Inspector.cancel`."""
        return self._actions.cancel(selection, **where)

    @lists(WHERE_DEFAULTS)
    def archive(
        self, selection: Any = None, *, keep_lock: bool = False, **where: Unpack[TaskWhere]
    ) -> BulkResult:
        """Archive tasks that do not run; see `Inspector.archive`."""
        return self._actions.archive(selection, keep_lock=keep_lock, **where)

    @lists(WHERE_DEFAULTS)
    def delete(
        self, selection: Any = None, *, keep_lock: bool = False, **where: Unpack[TaskWhere]
    ) -> BulkResult:
        """Delete tasks that do not run; see `Inspector.delete`."""
        return self._actions.delete(selection, keep_lock=keep_lock, **where)

    @lists(WHERE_DEFAULTS)
    def reschedule(
        self,
        selection: Any = None,
        *,
        at: datetime | None = None,
        delay: Duration | None = None,
        **where: Unpack[TaskWhere],
    ) -> BulkResult:
        """Run tasks at another time, ``at`` or after ``delay``; see `Inspector.reschedule`."""
        return self._actions.reschedule(selection, at=at, delay=delay, **where)

    # --- Limits --------------------------------------------------------------------------------

    def limits(self, queue: str | None = None) -> DataFrame:
        """Return the limits of a queue, or of all queues, as a DataFrame indexed by ``name``.

        Its columns are ``queue``, ``concurrency``, ``rate``, ``held`` (the tasks that run under
        it), ``waiting`` and ``fault`` (the reason why its numbers cannot be read).
        `Inspector.limits` has the same as a list.

        >>> q.limits()[["concurrency", "held", "waiting"]]
        """
        return inspection.frames.limits(self._session, queue)

    def set_limit(self, limit: Limit, *, queue: str = "default") -> None:
        """Change the numbers of a limit, or create one.

        Tasks that wait for it are looked at again at once; those that run go on. Raises
        `UsageError` for a limit whose name is a function.
        """
        inspection.limits.set_limit(self._session, limit, queue)

    def remove_limit(self, name: str, *, queue: str = "default") -> bool:
        """Remove a limit, so that tasks that wait for it may run; return whether it existed.

        The next task that names it creates it again.
        """
        return inspection.limits.remove_limit(self._session, name, queue)

    def set_concurrency(self, queue: str, concurrency: int | None) -> None:
        """Limit how many tasks of a queue run at a time, over all workers.

        None lifts the limit. Tasks that already run are not interrupted. Programs in Go do not
        respect the limit, but the tasks they run count.
        """
        inspection.limits.set_concurrency(self._session, queue, concurrency)

    # --- Ending --------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop submitting. With ``wait``, wait for the tasks of this client, then `close`.

        ``cancel_futures`` cancels its tasks that do not run yet. Interrupting the wait leaves the
        rest running. It can be called more than once.
        """
        session = self._session
        session.accepts = False
        if not session.is_open:
            return
        if cancel_futures:
            self._cancel_waiting()
        if wait:
            session.listener.wait_until_idle()
            session.close()

    def _cancel_waiting(self) -> None:
        waiting: dict[str, list[str]] = {}
        for queue, task_id, _ in self._session.listener.outstanding(own=True):
            waiting.setdefault(queue, []).append(task_id)
        for queue, task_ids in waiting.items():
            self._session.cancel(queue, task_ids, running=False)

    def close(self) -> None:
        """Close the connections without waiting. Tasks go on; their futures here end.

        Waits that are still open raise `StoreError`; ``connect().get(id)`` finds such a task again.
        """
        self._session.accepts = False
        self._session.close()

    def __reduce__(self) -> Any:
        raise TypeError("a Client cannot be pickled: it holds connections; call nbqueue.connect()")

    def __repr__(self) -> str:
        place = self._session.store.url.place
        if not self._session.accepts:
            return printable(f"<Client of {place} closed>")
        why = in_short(self._session.obstacles.look_at_store())
        return printable(f"<Client of {place}{f': {why}' if why else ''}>")
