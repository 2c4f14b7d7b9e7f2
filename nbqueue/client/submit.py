"""From a function and its arguments to tasks in the store."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from nbqueue.broker.commands import LockHolder, NewTask
from nbqueue.broker.naming import name_task
from nbqueue.calls import payloads
from nbqueue.calls.digest import call_digest
from nbqueue.calls.functions import Code, dump_call, dump_function
from nbqueue.client.futures import About, TaskFuture
from nbqueue.client.groups import TaskGroup
from nbqueue.client.outcomes import DELETED, End
from nbqueue.client.scheduling import Scheduling
from nbqueue.client.terms import Terms
from nbqueue.clock import to_ms_up
from nbqueue.errors import StoreError, TaskIdConflict, UsageError
from nbqueue.executor.policy import Policy, WithPolicy
from nbqueue.options import TaskOptions
from nbqueue.pieces import Body, Pieces
from nbqueue.wire import states
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import TaskMessage, message_encoder, write_apart

if TYPE_CHECKING:
    from nbqueue.client.schedules import Schedule
    from nbqueue.client.session import Session

P = ParamSpec("P")
T = TypeVar("T")

_SLICE = 1_024
_SLICE_BYTES = 8_000_000
_NAME_SECONDS = 90 * 86_400


class Submitter(Scheduling):
    """Submits calls with certain options. Get it from `Client.options`; it can be kept and shared.

    >>> critical = q.options(queue="critical", retry=3)
    >>> critical.submit(fit, 0.1)
    >>> critical.options(timeout="10m").map(fit, grid)
    """

    def __init__(self, session: Session, changes: Mapping[str, Any]) -> None:
        self._session = session
        self._changes = dict(changes)
        # What is wrong with them is said now, and not where they are used.
        self._check = Terms(TaskOptions().merged(self._changes))
        self._last_call: _Call | None = None

    def options(self, **changes: Any) -> Submitter:
        """The same, with these options changed."""
        return Submitter(self._session, {**self._changes, **changes})

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> TaskFuture[T]:
        """Enqueue ``fn(*args, **kwargs)``; see `Client.submit`."""
        session = self._session
        session.check_open()
        call = self._call(fn)
        arguments = dump_call(args, kwargs, callee=call.code.name, fn=call.fn)
        if call.is_plain:
            return call.send_plain(arguments)
        if call.is_unique:
            # Edited or not, the same function with the same arguments is the same task.
            call.set_lock(call_digest(call.fn, args, kwargs))
        return call.send(
            lambda task_id: call.limited([call.task(task_id, arguments)], [(args, kwargs)])[0]
        )

    def map(self, fn: Callable[..., T], /, *iterables: Iterable[Any]) -> TaskGroup[T]:
        """Enqueue a call for each set of arguments; see `Client.map`."""
        session = self._session
        session.check_open()
        call = self._call(fn)
        if call.terms.options.task_id is not None:
            raise UsageError("task_id= names one task, and a map makes many: leave it out")
        if call.is_unique:
            raise UsageError("unique= looks at one task at a time: use submit for each of them")
        [group_id] = session.make_ids(1)
        group: TaskGroup[T] = TaskGroup(session, group_id, call.about)
        items = iter(zip(*iterables))  # noqa: B905 (as map does, it ends with the shortest)
        try:
            while tasks := call.tasks(items):
                group._add([task.task_id for task in tasks])
                call.enqueue(tasks, group)
        except BaseException:
            # There will be no handle to what was enqueued so far, so it should not run either.
            self._take_back(group)
            raise
        return group

    def enqueue(self, type: str, payload: Any = None, **options: Any) -> TaskFuture[Any]:
        """Enqueue a message for the handlers of ``type``; see `Client.enqueue`."""
        from nbqueue.client.messages import enqueue_message

        return enqueue_message(self._session, {**self._changes, **options}, type, payload)

    def _take_back(self, group: TaskGroup[Any]) -> None:
        if len(group):
            try:
                self._session.cancel(group.queue, group.ids)
                self._session.listener.forget(group.queue, group.ids)
            except StoreError:
                pass  # the first error says more

    def _call(self, fn: Callable[..., Any]) -> _Call:
        terms = self._check
        if isinstance(fn, TaskFunction):
            # What its decorator said holds, unless it was said otherwise for this call.
            terms = Terms(TaskOptions().merged(fn._changes).merged(self._changes))
            fn = fn.__wrapped__
        code, last = _dump(fn, terms.policy), self._last_call
        if last is not None and last.code is code and last.fn is fn and last.terms is terms:
            return last
        call = _Call(self._session, terms, fn, code)
        if not call.is_unique:  # those differ by their locks
            self._last_call = call
        return call

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in self._changes.items())
        return f"<options {said or 'as by default'}>"


def _dump(fn: Callable[..., Any], policy: Policy) -> Code:
    code = dump_function(fn)
    if policy.is_empty:
        return code
    # What is done about its errors may be code, too, and travels with the function.
    whole = dump_function(WithPolicy(fn, policy))
    return replace(whole, name=code.name, is_coroutine=code.is_coroutine)


class _Unsent:
    """What calls and messages have in common on their way into the store."""

    def __init__(self, session: Session, terms: Terms, about: About) -> None:
        terms.options.check_whole()
        self.session = session
        self.terms = terms
        self.queue = about.queue
        self.about = about
        self.group = terms.options.group or ""
        self._message = TaskMessage()
        self._message.CopyFrom(terms.message)
        self._message.type = about.type
        options = terms.options
        self._is_for_now = options.at is None and not terms.delay
        self.is_plain = self._is_for_now and not (
            self.group or self.is_unique or options.limit or options.task_id or options.name
        )
        """Whether there is nothing special about it, as of most."""
        self._about_rest = about[1:]

    def future(self, task_id: str) -> TaskFuture[Any]:
        future: TaskFuture[Any] = TaskFuture(self.session, About(task_id, *self._about_rest))
        if self.due_ms() is not None:
            future._notice(task_id, states.SCHEDULED)
        elif self.group:
            future._notice(task_id, states.AGGREGATING)
        return future

    @property
    def is_unique(self) -> bool:
        return self.terms.unique_ms is not None

    def limited(self, tasks: list[NewTask], arguments: Sequence[Any]) -> list[NewTask]:
        """These tasks under their limit, if they have one."""
        if self.terms.options.limit is None:
            return tasks
        from nbqueue.client.limits import under_limit

        return under_limit(self, tasks, arguments)

    def send(self, make: Callable[[str], NewTask]) -> TaskFuture[Any]:
        """Write the task that ``make`` makes of an id, and return its future."""
        if self.is_unique:
            from nbqueue.client.unique import send_unique

            return send_unique(self, make)
        task_id = self.terms.options.task_id
        if task_id is not None:
            future = self._send_named(make(task_id))
        else:
            [task_id] = self.session.make_ids(1)
            future = self.future(task_id)
            self.enqueue([make(task_id)], future)
        self.write_name(task_id)
        return future

    def _send_named(self, task: NewTask) -> TaskFuture[Any]:
        # Somebody may wait for another task of this id, so it is listened to once it is ours.
        if self.write([task]):
            raise id_conflict(self.queue, task.task_id)
        return self.watched(task.task_id)

    def watched(self, task_id: str) -> TaskFuture[Any]:
        """The future of a task that was just written."""
        future = self.future(task_id)
        bereft = self.session.listener.watch(self.queue, task_id, future, own=True)
        if bereft is not None:
            # The id was free, so the task that he waits for was deleted without a word.
            bereft._take(((task_id, End(DELETED)),))
        return future

    def enqueue(self, tasks: Sequence[NewTask], sink: Any) -> None:
        """Write tasks whose ids we made; their ends are told to ``sink``, a future or a group."""
        listener, queue = self.session.listener, self.queue
        ids = [task.task_id for task in tasks]
        generation = listener.expect(queue, ids, sink)
        try:
            conflicts = self.write(tasks)
            if conflicts:
                raise TaskIdConflict(f"the id {ids[conflicts[0]]} exists", ids[conflicts[0]])
        except BaseException:
            listener.forget(queue, ids)
            raise
        listener.entered(queue, ids, generation)

    def write(self, tasks: Sequence[NewTask]) -> list[int]:
        """Write tasks; returns the positions of those whose id existed."""
        code = self._code()
        due_ms, group = self.due_ms(), self.group
        return self.session.broker.enqueue(self.queue, tasks, due_ms, *code, group=group)

    def write_unique(self, task: NewTask) -> LockHolder | None:
        """Write a unique task; returns who holds its lock if another does."""
        assert self.terms.unique_ms is not None
        fingerprint, blob = self._code()
        return self.session.broker.enqueue_unique(
            self.queue,
            task,
            self._message.unique_key,
            self.terms.unique_ms,
            due_ms=self.due_ms(),
            replace=self.terms.options.on_conflict == "replace",
            after=self.terms.options.on_conflict == "after",
            fingerprint=fingerprint,
            blob=blob,
            group=self.group,
        )

    def _code(self) -> tuple[bytes | None, bytes | None]:
        """The fingerprint and the code that the task needs in the store; a message needs none."""
        return None, None

    def write_name(self, task_id: str) -> None:
        name = self.about.name
        if name is not None:
            session, terms = self.session, self.terms
            due_ms = self.due_ms()
            delay = 0.0 if due_ms is None else (due_ms - session.clock.now_ms()) / 1000
            seconds = max(_NAME_SECONDS, math.ceil(delay + terms.retention) + 86_400)
            session.broker.run(name_task(self.queue, task_id, name, seconds))

    def due_ms(self) -> int | None:
        """When it is due, on the store's clock; None for now."""
        if self._is_for_now:
            return None
        now_ms = self.session.clock.now_ms()
        at = self.terms.options.at
        due_ms = now_ms + round(self.terms.delay * 1000) if at is None else to_ms_up(at)
        return due_ms if due_ms > now_ms else None


def id_conflict(queue: str, task_id: str) -> TaskIdConflict:
    return TaskIdConflict(
        f"a task with the id {task_id!r} exists in queue {queue!r} already: choose "
        f"another, leave task_id out, or wait for that one with q.get({task_id!r})",
        task_id,
    )


class _Call(_Unsent):
    """One function with its options, ready to make tasks of arguments."""

    def __init__(
        self, session: Session, terms: Terms, fn: Callable[..., Any], code: Code | None = None
    ) -> None:
        self.fn = fn
        options = terms.options
        options.check_call()
        self.code: Code = _dump(fn, terms.policy) if code is None else code
        is_json = options.codec == "json"
        about = About("", options.queue, self.code.name, options.name, is_json=is_json)
        super().__init__(session, terms, about)
        self._flags = (
            payloads.COROUTINE * self.code.is_coroutine
            | payloads.BY_REFERENCE * self.code.by_reference
            | payloads.FAIL_IF_LOST * (options.on_lost == "fail")
            | payloads.JSON_RESULT * is_json
        )
        self._encode = message_encoder(self._message)

    def send_plain(self, arguments: Body) -> TaskFuture[Any]:
        """Write a task that `is_plain`, and return its future."""
        session = self.session
        [task_id] = session.make_ids(1)
        task = self.task(task_id, arguments)
        future: TaskFuture[Any] = TaskFuture(session, About(task_id, *self._about_rest))
        self.enqueue((task,), future)
        return future

    def set_lock(self, digest: str) -> None:
        """The task is unique by its queue, its type and this digest."""
        self._message.unique_key = queue_keys(self.queue).lock(self.about.type, digest)
        self._encode = message_encoder(self._message)

    def task(self, task_id: str, arguments: Body) -> NewTask:
        code, limits = self.code, self.terms.limits
        if isinstance(arguments, Pieces):
            return self._large_task(task_id, arguments, limits)
        unsigned = payloads.pack_call(code.fingerprint, arguments, self._flags, limits)
        payload = self.session.keyring.sign_call(unsigned, task_id, self.queue, code.name)
        return NewTask(task_id, self._encode(task_id, payload))

    def _large_task(
        self, task_id: str, arguments: Pieces, limits: payloads.Limits | None
    ) -> NewTask:
        message, parts = self._message, arguments.parts
        unsigned = payloads.call_head(self.code.fingerprint, self._flags, limits)
        head = self.session.keyring.sign_call_apart(
            unsigned, parts, task_id, self.queue, self.code.name
        )
        message.id = task_id
        message.ClearField("payload")
        return NewTask(task_id, write_apart(message, Pieces(head, *parts)))

    def tasks(self, items: Iterator[Sequence[Any]]) -> list[NewTask]:
        """Make the tasks of the next items: as many as go into one slice."""
        name, size = self.code.name, 0
        dumped: list[Body] = []
        named: list[tuple[Sequence[Any], Mapping[str, Any]]] = []
        for item in items:
            arguments = dump_call(tuple(item), {}, callee=name, fn=self.fn)
            dumped.append(arguments)
            named.append((item, {}))
            size += len(arguments)
            if len(dumped) >= _SLICE or size >= _SLICE_BYTES:
                break
        task, ids = self.task, self.session.make_ids(len(dumped))
        made = [task(i, arguments) for i, arguments in zip(ids, dumped, strict=True)]
        return self.limited(made, named)

    def _code(self) -> tuple[bytes | None, bytes | None]:
        return self.code.fingerprint, self.code.blob


class TaskFunction(Generic[P, T]):
    """A function under ``@q.task``: called, it runs here; ``.submit`` and ``.map`` run it there.

    Used inside another task, it is the plain function.
    """

    __wrapped__: Callable[P, T]

    def __init__(self, session: Session, fn: Callable[P, T], changes: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, fn)
        self._session = session
        self._changes = dict(changes)
        self._submitter = Submitter(session, self._changes)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.__wrapped__(*args, **kwargs)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]:
        """Enqueue a call of it; see `Client.submit`."""
        return self._submitter.submit(self.__wrapped__, *args, **kwargs)

    def map(self, *iterables: Iterable[Any]) -> TaskGroup[T]:
        """Enqueue a call of it for each set of arguments; see `Client.map`."""
        return self._submitter.map(self.__wrapped__, *iterables)

    def schedule(self, spec: str, **settings: Any) -> Schedule:
        """Run it whenever ``spec`` is due; see `Client.schedule`."""
        return self._submitter.schedule(self.__wrapped__, spec, **settings)

    def options(self, **changes: Any) -> TaskFunction[P, T]:
        """The same function with options changed."""
        return TaskFunction(self._session, self.__wrapped__, {**self._changes, **changes})

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        bound = cast("Callable[..., T]", MethodType(self.__wrapped__, instance))
        return TaskFunction(self._session, bound, self._changes)

    def __reduce__(self) -> tuple[Any, ...]:
        # With nothing of nbqueue in it: whoever loads it needs no client.
        import operator

        return operator.itemgetter(0), ((self.__wrapped__,),)

    def __repr__(self) -> str:
        return f"<task {self.__wrapped__!r}>"
