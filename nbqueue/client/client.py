"""`Client`: the side that asks."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from nbqueue.broker.commands import lifecycle
from nbqueue.calls.functions import dump_function
from nbqueue.calls.keys.signing import Keyring
from nbqueue.calls.payloads import BY_REFERENCE, COROUTINE, is_call, pack_call
from nbqueue.client.futures.future import TaskFuture, attach
from nbqueue.client.futures.group import TaskGroup
from nbqueue.client.futures.json_results import has_json_result
from nbqueue.client.futures.outcome import end_of
from nbqueue.client.futures.task_facts import TaskFacts
from nbqueue.client.futures.waits import seconds_of
from nbqueue.client.inspection.limits import Limits
from nbqueue.client.inspection.tables import Tables
from nbqueue.client.session import CAPTURED_LIMIT, Session, new_session
from nbqueue.client.submitting.submitter import Submitter, TaskFunction
from nbqueue.durations import Duration
from nbqueue.errors import TaskNotFound, UsageError
from nbqueue.moved_modules import public
from nbqueue.printable import visible
from nbqueue.sizes import Size
from nbqueue.tasks.task import Task
from nbqueue.wire import states
from nbqueue.wire.keys import HANDLER_TYPE

if TYPE_CHECKING:
    from nbqueue.client.inspection.inspector import Inspector
    from nbqueue.client.schedules.schedule import Schedule

P = ParamSpec("P")
T = TypeVar("T")


@public
def connect(
    url: str | None = None,
    *,
    key: str | bytes | Keyring | None = None,
    captured_limit: Size | None = CAPTURED_LIMIT,
    durability: Literal["fsync", "replicated"] | None = None,
) -> Client:
    """Connect to a store, and return a client of it.

    ``url``: where the store is (``redis://…``, ``rediss://…``, ``unix://…``, ``embedded://…``);
    without one ``NBQUEUE_URL``, else the embedded store of this project, which is started if it
    does not run. ``key``: the signing key, as ``NBQUEUE_KEY`` has it (text), or 32 bytes; without
    one ``NBQUEUE_KEY``, else the key file of the store. ``captured_limit``: how much a function may
    take along of what it uses (globals, closures, defaults, attributes), a size such as ``"16MB"``,
    or None for any; from 1 MB on there is a `LargeCaptureWarning`. ``durability``: ``"fsync"`` has
    each submit return only when the task is on the store's disk; see docs/durability.md.

    >>> q = nbqueue.connect()
    >>> q.submit(sum, [1, 2, 3]).result()
    6

    Raises `InvalidURL`, `StoreUnreachable`, `StoreDenied` (a wrong password), `StoreUnsuitable`
    (older than Redis 6.2), `NoEmbeddedServer`, `UsageError` for a key that cannot be used, and
    `NoSigningKey` in a task whose worker has its key from ``NBQUEUE_KEY``.
    Warns if the server may throw keys away.
    """
    return Client(new_session(url, key, captured_limit, durability))


@public
class Client(Tables, Limits, concurrent.futures.Executor):
    """Submits tasks to one store and finds them again; made by `connect`.

    It is a `concurrent.futures.Executor` as well, so it serves wherever one is asked for
    (``loop.run_in_executor(q, fn)``, scikit-learn's and others' back ends). Threads may share it.

    As a context manager it waits, at the end, for the tasks that were submitted through it, as
    every executor does. A client that is simply dropped waits for nothing: its tasks go on.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._default = Submitter(session, {})

    @property
    def url(self) -> str:
        """Where its store is; passwords are shown as ``***``."""
        return self._session.store.url.redacted

    # --- Submitting ----------------------------------------------------------------------------

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> TaskFuture[T]:
        """Run ``fn(*args, **kwargs)`` on a worker; returns its handle at once.

        The function travels as it is now, with the code of the notebook and of local modules that
        it uses. Its result is kept for a day, it may take as long as it needs, an error is not
        tried again, and if its worker dies it runs again; `options` changes all that.

        >>> f = q.submit(fit, lr=0.1)
        >>> f.result()                      # doctest: +SKIP

        Raises `CannotPickle`, which names what cannot be sent; `ValueTooLarge` for a function that
        takes along more than `connect` allows; `StoreUnreachable` if the store is
        away for more than 10 seconds, and `SubmitUnconfirmed`, a kind of it with the task's id, if
        the store may have the task; `RuntimeError` after `shutdown`.
        """
        return self._default.submit(fn, *args, **kwargs)

    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: Duration | None = None,
        chunksize: int = 1,
    ) -> TaskGroup[T]:
        """Run ``fn`` for each set of arguments, as the builtin ``map`` would; returns a group.

        Iterating the group gives the results in order. The function is pickled once. It ends with
        the shortest of ``iterables``. ``timeout`` limits, from now, the iteration of the group and
        not the tasks (`options` has a time-out for these); ``chunksize`` is of other executors,
        and ignored.

        >>> for score in q.map(fit, grid): ...

        Raises as `submit`; then what had been enqueued already is cancelled.
        """
        group = self._default.map(fn, *iterables)
        seconds = seconds_of(timeout)
        if seconds is not None:
            group._until = time.monotonic() + seconds
        return group

    def enqueue(self, type: str, payload: Any = None, **options: Any) -> TaskFuture[Any]:
        """Enqueue a message: a task for whoever handles its ``type``, also for programs in Go.

        ``payload`` goes as it is if it is bytes, as UTF-8 if it is text, and as JSON on one line
        if it is anything else; None is no payload. ``options``: see `options`. The defaults are
        Asynq's: 25 retries, half an hour for an attempt unless there is a deadline, and deleted
        when done (``retention`` 0).

        The future's result is what the handler wrote: a JSON value, or bytes that are none. It is
        None where nothing is left: of a message that was deleted when it was done. With
        ``group=`` it waits to be aggregated, and the result is the id of the task that it joined.

        >>> q.enqueue("email:deliver", {"user": 1}, queue="critical", delay="5m")

        Raises `UsageError` for a payload that JSON cannot hold, an empty type, or a wrong option;
        `TaskIdConflict`, `StoreUnreachable`.
        """
        return self._default.enqueue(type, payload, **options)

    def schedule(
        self,
        fn: Callable[..., Any],
        spec: str,
        *,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Schedule:
        """Run ``fn(*args, **kwargs)`` on a worker whenever ``spec`` is due; returns its handle.

        ``spec``: ``"*/5 * * * *"`` (minute, hour, day of month, month, day of week), ``"@every
        30s"``, ``"@hourly"``, …; see docs/schedules.md. ``settings``: ``id`` (another schedule of
        this id in the queue is replaced; default: the function's name, with a digest of the
        arguments), ``tz``, ``missed`` (``"once"``, ``"skip"``, ``"all"``: what of the runs for
        which there was no worker), ``overlap`` (False: not while the last run goes on),
        ``jitter`` (a duration), ``start``, ``until`` (datetimes), ``max_runs``; and the options of
        a task. It survives everything, until `Schedule.remove`.

        >>> q.schedule(report, "0 7 * * mon-fri", tz="Europe/Paris", id="report", retry=3)

        Raises `UsageError`, which says what is wrong with ``spec``; `CannotPickle`.
        """
        return self._default.schedule(fn, spec, args=args, kwargs=kwargs, **settings)

    def schedule_message(
        self, type: str, payload: Any = None, spec: str = "", **settings: Any
    ) -> Schedule:
        """Enqueue a message whenever ``spec`` is due; see `schedule` and `enqueue`.

        >>> q.schedule_message("email:digest", {"to": "all"}, "@daily", tz="Europe/Paris")
        """
        return self._default.schedule_message(type, payload, spec, **settings)

    def options(self, **options: Any) -> Submitter:
        """Something with ``submit``, ``map`` and ``enqueue`` whose tasks have these options.

        ``queue``, ``retry``, ``retry_delay``, ``retry_on``, ``timeout``, ``deadline``, ``delay`` or
        ``at``, ``retention``, ``unique``, ``on_conflict``, ``group``, ``limit``, ``task_id``,
        ``name``, ``headers``, ``on_lost``, ``codec``, ``seed``, ``fresh``: see
        `nbqueue.options.TaskOptions`.

        >>> q.options(queue="critical", retry=5, timeout="10m").submit(fit, 0.1)

        Raises `UsageError` for one that there is not, or that cannot be right.
        """
        return self._default.options(**options)

    @overload
    def task(self, fn: Callable[P, T], /) -> TaskFunction[P, T]: ...
    @overload
    def task(self, /, **options: Any) -> Callable[[Callable[P, T]], TaskFunction[P, T]]: ...
    def task(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """A decorator: the function gets ``submit``, ``map`` and ``options``; called, it runs here.

        >>> @q.task(queue="gpu", retry=3)
        ... def fit(lr): ...
        >>> fit(0.1)                        # runs here
        >>> fit.submit(0.1)                 # runs there
        """
        Submitter(self._session, options)  # what is wrong with them is said at this line
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
        """Have the workers of ``queue`` run messages of type ``pattern`` by ``fn``, from now on.

        The handler is signed and kept in the store: running workers take it up at once, later
        ones find it there, and serving another one replaces it. An exact match goes first, then
        the longest pattern with which the type begins. ``fn`` gets a `Task` and may be a coroutine
        function; see `Worker.handle`. Without ``fn`` it is a decorator.

        >>> @q.serve("email:")
        ... def deliver(task): ...

        Raises `CannotPickle`, `UsageError` for a blank pattern, `StoreUnreachable`.
        """
        if fn is None:
            return lambda fn: self.serve(pattern, fn, queue=queue)
        session = self._session
        session.check_open()
        if not isinstance(pattern, str) or not pattern.strip():
            raise UsageError(f"pattern={pattern!r} is empty: name a type, or how types begin")
        code = dump_function(fn, session.code_limit)
        session.check_value(len(code.blob), f"the code of {code.name}")
        flags = COROUTINE * code.is_coroutine | BY_REFERENCE * code.by_reference
        unsigned = pack_call(code.fingerprint, b"", flags)
        envelope = session.keyring.sign_call(unsigned, pattern, queue, HANDLER_TYPE)
        session.broker.run(
            lifecycle.serve(
                queue, pattern, envelope, code.fingerprint, code.blob, session.clock.now_ms()
            )
        )
        return fn

    def unserve(self, pattern: str, *, queue: str = "default") -> bool:
        """Forget the handler that `serve` put there; returns whether there was one."""
        self._session.check_open()
        return self._session.broker.run(lifecycle.unserve(queue, pattern))

    # --- Finding -------------------------------------------------------------------------------

    def get(self, task_id_or_name: str) -> TaskFuture[Any]:
        """The handle of a task: after a restart of the kernel, or from another machine.

        >>> q.options(name="train").submit(train)
        >>> q.get("train").result()         # later, elsewhere  # doctest: +SKIP

        An id goes before a name; of several tasks that had the name it is the newest one. Raises
        `TaskNotFound` if the store has no such task (any more).
        """
        self._session.check_open()
        if not isinstance(task_id_or_name, str) or not task_id_or_name:
            raise UsageError(f"{task_id_or_name!r} is neither the id nor the name of a task")
        broker = self._session.broker
        record = broker.find(task_id_or_name)
        name = None
        if record is None:
            name, found = task_id_or_name, self._session.find_by_name(task_id_or_name)
            if found is None:
                raise TaskNotFound(
                    f"{self.url} has no task with the id or the name {name!r}: it never had one, "
                    "or the task was deleted, as finished tasks are at the end of their retention",
                    task_id_or_name,
                )
            record = broker.find(found[1], found[0])
            if record is None:
                raise TaskNotFound(
                    f"the task {found[1]}, the newest with the name {name!r}, is no longer in the "
                    "store: its retention is over, or somebody deleted it",
                    found[1],
                )
        message = record.message
        is_json = has_json_result(self._session.keyring, record.queue, message)
        calls = is_call(message.payload)
        is_kept = not calls and message.retention > 0
        about = TaskFacts(message.id, record.queue, message.type, name, calls, is_json, is_kept)
        if record.state in states.FINAL:
            future: TaskFuture[Any] = TaskFuture(self._session, about)
            future._take(((message.id, end_of(record)),))
        else:
            future = attach(self._session, about)
        future._notice(message.id, record.state)
        future._attempt = record.attempt
        return future

    @property
    def inspector(self) -> Inspector:
        """Looks into the store and moves tasks by hand; see `Inspector`.

        >>> q.inspector.pause("default")
        """
        from nbqueue.client.inspection.inspector import Inspector

        return Inspector(self._session)

    def panel(
        self,
        *,
        tab: str = "Queues",
        queues: Sequence[str] | None = None,
        read_only: bool = False,
    ) -> Any:
        """A panel of everything in the store, live, as the output of a cell.

        ``tab`` opens first (Queues, Tasks, Workers, Schedules, Timeline or History); ``queues``:
        only these; ``read_only``: without whatever changes something. Raises `UsageError`.
        """
        from nbqueue.client.live.display import panel

        return panel(self, tab=tab, queues=queues, read_only=read_only)

    # --- Ending --------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Submit no more. With ``wait``, wait for the tasks of this client, then `close`.

        ``cancel_futures`` cancels its tasks that do not run yet. Interrupting the wait leaves the
        rest running. Twice is harmless.
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
        """Close the connections, waiting for nothing. Tasks go on; their futures here do not.

        What is still waited for raises `StoreError`; ``connect().get(id)`` finds it again.
        """
        self._session.accepts = False
        self._session.close()

    def __reduce__(self) -> Any:
        raise TypeError("a Client does not travel: it holds connections; call nbqueue.connect()")

    def __repr__(self) -> str:
        state = "" if self._session.accepts else " closed"
        return visible(f"<Client of {self.url}{state}>")
