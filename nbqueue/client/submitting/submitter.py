"""Submitting calls of functions: one, or one for each set of arguments."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from nbqueue.calls.argument_digest import call_digest
from nbqueue.calls.functions import dump_call, dump_function
from nbqueue.client import schedules
from nbqueue.client.cancelling.interrupted_map import take_back
from nbqueue.client.futures.future import TaskFuture
from nbqueue.client.futures.group import TaskGroup
from nbqueue.client.futures.waits import seconds_of
from nbqueue.client.session import shut_down
from nbqueue.client.submitting.decorated_function import DecoratedFunction, undecorated
from nbqueue.client.submitting.map_items import MapItems
from nbqueue.client.submitting.option_keywords import (
    OPTION_DEFAULTS,
    SCHEDULE_DEFAULTS,
    OptionKeywords,
    ScheduleKeywords,
)
from nbqueue.client.submitting.prepared_call import PreparedCall, dump_with_policy
from nbqueue.client.submitting.prepared_message import enqueue_message
from nbqueue.client.submitting.resolved_options import ResolvedOptions
from nbqueue.client.submitting.signatures import Coro, typed_map, typed_submit
from nbqueue.client.task_groups.recorder import TaskGroupRecorder, expected_count
from nbqueue.durations import Duration
from nbqueue.errors import UsageError
from nbqueue.keywords import lists
from nbqueue.moved_modules import pickled_as
from nbqueue.options import TaskOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from nbqueue.client.schedules import Schedule
    from nbqueue.client.session import Session

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)


class Submitter:
    """Submits calls with certain options. Get it from `Client.options`; it can be kept and shared.

    >>> critical = q.options(queue="critical", retry=3)
    >>> critical.submit(fit, 0.1)
    >>> critical.options(timeout="10m").map(fit, grid)
    """

    def __init__(self, session: Session, changes: Mapping[str, Any]) -> None:
        self._session = session
        self._changes = dict(changes)
        # Wrong options raise here, and not where they are used.
        self._resolved = ResolvedOptions(TaskOptions().merged(self._changes))
        self._last_call: PreparedCall | None = None

    @lists(OPTION_DEFAULTS, described_by=TaskOptions)
    def options(self, **changes: Unpack[OptionKeywords]) -> Submitter:
        """Return a submitter with these options changed."""
        return Submitter(self._session, {**self._changes, **changes})

    @typed_submit
    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> TaskFuture[T]:
        """Enqueue ``fn(*args, **kwargs)``; see `Client.submit`."""
        call = self._call(fn)
        call.shapes.check(args, kwargs)
        code = call.code
        arguments = dump_call(args, kwargs, callee=code.name, fn=call.fn, imports=code.imports)
        if call.is_unique:
            # The lock depends on the function's name and its arguments, and not on its code.
            call.set_lock(call_digest(call.fn, args, kwargs))
        task_id = call.options.task_id or self._session.ids.make()
        return call.send(call.task(task_id, arguments), (args, kwargs))

    @typed_map
    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: Duration | None = None,
        chunksize: int = 1,
    ) -> TaskGroup[T]:
        """Enqueue a call for each set of arguments; see `Client.map`."""
        session = self._session
        seconds = seconds_of(timeout)
        call = self._call(fn)
        if call.options.task_id is not None:
            raise UsageError("task_id= names one task, and a map makes many: leave it out")
        if call.is_unique:
            raise UsageError("unique= looks at one task at a time: use submit for each of them")
        if not iterables:
            raise UsageError(
                "map needs an iterable of arguments; submit makes one call without any"
            )
        call.shapes.check(iterables, {})
        group_id = session.ids.make()
        group: TaskGroup[T] = TaskGroup(session, group_id, call.facts)
        recorder = TaskGroupRecorder(
            session, group_id, call.facts, call.resolved.retention, expected_count(iterables)
        )
        group._begun_ms = recorder.started_ms
        items = MapItems(call, zip(*iterables))  # noqa: B905 (like map, up to the shortest)
        try:
            while (request := items.next_request()) is not None:
                group._add(request.ids)
                request = recorder.record(request, is_last=items.is_exhausted)
                call.enqueue(request, request.ids, group)
            recorder.end()
        except BaseException as error:
            # The caller gets no handle to the tasks that were enqueued, so they must not run.
            take_back(session, group, error)
            raise
        if seconds is not None:
            group._until = time.monotonic() + seconds
        return group

    @lists(OPTION_DEFAULTS)
    def enqueue(
        self, type: str, payload: Any = None, **options: Unpack[OptionKeywords]
    ) -> TaskFuture[Any]:
        """Enqueue a message for the handlers of ``type``; see `Client.enqueue`."""
        return enqueue_message(self._session, {**self._changes, **options}, type, payload)

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
        """Run ``fn(*args, **kwargs)`` whenever ``spec`` is due; see `Client.schedule`."""
        return schedules.schedule_call(
            self._session, self._changes, settings, fn, spec, tuple(args), dict(kwargs or {})
        )

    @lists({"id": None}, SCHEDULE_DEFAULTS, OPTION_DEFAULTS)
    def schedule_message(
        self,
        type: str,
        payload: Any = None,
        spec: str = "",
        **settings: Unpack[ScheduleKeywords],
    ) -> Schedule:
        """Enqueue a message whenever ``spec`` is due; see `Client.schedule_message`."""
        return schedules.schedule_message(
            self._session, self._changes, settings, type, payload, spec
        )

    def _call(self, fn: Callable[..., Any]) -> PreparedCall:
        """Return the function with its options, the last one again if nothing has changed."""
        session, resolved = self._session, self._resolved
        if not session.accepts:
            raise shut_down()
        if isinstance(fn, TaskFunction):
            # The options of the decorator hold, except those that this submitter changes.
            fn, own = undecorated(fn)
            resolved = ResolvedOptions(TaskOptions().merged(own).merged(self._changes))
        if resolved.policy is None:
            code = dump_function(fn, session.code_limit)
        else:
            code = dump_with_policy(fn, resolved, session.code_limit)
        last = self._last_call
        if (
            last is not None
            and last.code is code
            and last.fn is fn
            and last.resolved is resolved
            and last.keyring is session.keyring
        ):
            return last
        call = PreparedCall(session, resolved, fn, code)
        if not call.is_unique:  # each unique call has a lock of its own
            self._last_call = call
        return call

    def __repr__(self) -> str:
        changes = ", ".join(f"{name}={value!r}" for name, value in self._changes.items())
        return f"<options {changes or 'as by default'}>"


@pickled_as("nbqueue.client.submit")
class TaskFunction(DecoratedFunction, Generic[P, T_co]):
    """A function decorated with ``@q.task``.

    A call runs it here; ``submit`` and ``map`` run it on a worker. Inside another task it is the
    plain function.
    """

    __wrapped__: Callable[P, T_co]

    def __init__(self, session: Session, fn: Callable[P, T_co], changes: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, fn)
        self._session = session
        self._changes = dict(changes)
        self._submitter = Submitter(session, self._changes)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        return self.__wrapped__(*args, **kwargs)

    @overload
    def submit(
        self: TaskFunction[P, Coro[R]], *args: P.args, **kwargs: P.kwargs
    ) -> TaskFuture[R]: ...
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T_co]: ...
    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Enqueue a call of the function; see `Client.submit`."""
        return self._submitter.submit(self.__wrapped__, *args, **kwargs)

    @overload
    def map(
        self: TaskFunction[P, Coro[R]],
        *iterables: Iterable[Any],
        timeout: Duration | None = None,
        chunksize: int = 1,
    ) -> TaskGroup[R]: ...
    @overload
    def map(
        self, *iterables: Iterable[Any], timeout: Duration | None = None, chunksize: int = 1
    ) -> TaskGroup[T_co]: ...
    def map(self, *iterables: Iterable[Any], **options: Any) -> Any:
        """Enqueue a call for each set of arguments; see `Client.map`."""
        submit_all: Callable[..., Any] = self._submitter.map
        return submit_all(self.__wrapped__, *iterables, **options)

    @lists({"id": None}, SCHEDULE_DEFAULTS, OPTION_DEFAULTS)
    def schedule(self, spec: str, **settings: Unpack[ScheduleKeywords]) -> Schedule:
        """Run the function whenever ``spec`` is due; see `Client.schedule`."""
        return self._submitter.schedule(self.__wrapped__, spec, **settings)

    @lists(OPTION_DEFAULTS, described_by=TaskOptions)
    def options(self, **changes: Unpack[OptionKeywords]) -> TaskFunction[P, T_co]:
        """Return the function with these options changed."""
        return TaskFunction(self._session, self.__wrapped__, {**self._changes, **changes})

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        bound = cast("Callable[..., T_co]", MethodType(self.__wrapped__, instance))
        return TaskFunction(self._session, bound, self._changes)

    def __reduce__(self) -> tuple[Any, ...]:
        # As the plain function, which can be loaded without a client.
        import operator

        return operator.itemgetter(0), ((self.__wrapped__,),)

    def __repr__(self) -> str:
        return f"<task {self.__wrapped__!r}>"
