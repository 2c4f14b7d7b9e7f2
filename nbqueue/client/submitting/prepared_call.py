"""Calls on their way into the store: with their options, as the tasks that they become."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

from nbqueue.broker.commands.lifecycle import LockHolder, NewTask
from nbqueue.broker.commands.names import name_task
from nbqueue.calls import payloads
from nbqueue.calls.call_extensions import Seed
from nbqueue.calls.detached import beside_of
from nbqueue.calls.functions import Code, dump_call, dump_function
from nbqueue.calls.pickling.captured_values import warn_of_shared
from nbqueue.client.futures.future import TaskFuture
from nbqueue.client.futures.task_facts import TaskFacts
from nbqueue.client.submitting.resolved_options import ResolvedOptions
from nbqueue.clock import to_ms_up
from nbqueue.errors import StoreUnreachable, SubmitUnconfirmed, TaskIdConflict
from nbqueue.runtime.buffers import LARGE, Body, parts_of
from nbqueue.tasks.retry_policy import Policy, WithPolicy
from nbqueue.wire import states
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import TaskMessage, message_encoder

if TYPE_CHECKING:
    from nbqueue.client.session import Session

NAME_SECONDS = 90 * 86_400
_SLICE = 1_024
_SLICE_BYTES = 8_000_000


def dump_with_policy(fn: Callable[..., Any], policy: Policy, limit: int | None = None) -> Code:
    """Return a function as it is stored, with what is done about its errors.

    Raises as `dump_function` does, and `ValueTooLarge` for more than ``limit`` bytes.
    """
    code = dump_function(fn, limit)
    if policy.is_empty:
        return code
    # What is done about its errors may be code, too, and travels with the function.
    whole = dump_function(WithPolicy(fn, policy), limit)
    return replace(whole, name=code.name, is_coroutine=code.is_coroutine)


class PreparedTask:
    """What calls and messages have in common on their way into the store."""

    def __init__(self, session: Session, terms: ResolvedOptions, about: TaskFacts) -> None:
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
        future: TaskFuture[Any] = TaskFuture(self.session, TaskFacts(task_id, *self._about_rest))
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
        from nbqueue.client.inspection.limits import under_limit

        return under_limit(self, tasks, arguments)

    def send(self, make: Callable[[str], NewTask]) -> TaskFuture[Any]:
        """Write the task that ``make`` makes of an id, and return its future."""
        if self.is_unique:
            from nbqueue.client.submitting.unique import send_unique

            return send_unique(self, make)
        task_id = self.terms.options.task_id or self.session.make_id()
        future = self.future(task_id)
        self.enqueue([make(task_id)], future)
        self.write_name(task_id)
        return future

    def enqueue(self, tasks: Sequence[NewTask], sink: Any) -> None:
        """Write tasks; their ends are told to ``sink``, a future or a group."""
        self._enqueue(ids_of(tasks), tasks, sink)

    def _enqueue(self, ids: Sequence[str], tasks: Sequence[NewTask], sink: Any) -> None:
        listener, queue = self.session.listener, self.queue
        try:
            generation = self.expect(ids, sink)
            conflicts = self.write(tasks)
            if conflicts:
                raise id_conflict(queue, ids[conflicts[0]])
            listener.entered(queue, ids, generation, not self.about.is_call)
        except BaseException:
            listener.forget(queue, ids, sink)
            raise

    def expect(self, ids: Sequence[str], sink: Any) -> int:
        """Have ``sink`` told of the ends of tasks that are about to be written; see the listener's
        `expect`."""
        listener, queue = self.session.listener, self.queue
        if self.terms.options.task_id is None:
            return listener.expect(queue, ids, sink)
        [task_id] = ids
        while (generation := listener.expect_named(queue, task_id, sink)) is None:
            # Another task of this id is waited for here, which exists or is gone.
            if self.session.broker.states(queue, ids) != [None]:
                raise id_conflict(queue, task_id)
            listener.bereave(queue, task_id)
        return generation

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
            seconds = max(NAME_SECONDS, math.ceil(delay + terms.retention) + 86_400)
            try:
                session.broker.run(name_task(self.queue, task_id, name, seconds))
            except StoreUnreachable as error:
                raise SubmitUnconfirmed(
                    f"task {task_id!r} is in the store, but perhaps not its name {name!r}: "
                    f"q.get({task_id!r}) finds it by its id. {error}",
                    [task_id],
                ) from error

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


class PreparedCall(PreparedTask):
    """One function with its options, ready to make tasks of arguments."""

    def __init__(
        self,
        session: Session,
        terms: ResolvedOptions,
        fn: Callable[..., Any],
        code: Code | None = None,
    ) -> None:
        self.fn = fn
        options = terms.options
        options.check_call()
        if code is None:
            code = dump_with_policy(fn, terms.policy, session.code_limit)
        self.code: Code = code
        session.check_value(len(self.code.blob), f"the code of {self.code.name}")
        is_json = options.codec == "json"
        about = TaskFacts("", options.queue, self.code.name, options.name, is_json=is_json)
        super().__init__(session, terms, about)
        self._flags = (
            payloads.COROUTINE * self.code.is_coroutine
            | payloads.BY_REFERENCE * self.code.by_reference
            | payloads.FAIL_IF_LOST * (options.on_lost == "fail")
            | payloads.JSON_RESULT * is_json
            | payloads.FRESH * options.fresh
        )
        self._keyring = session.keyring
        head = payloads.call_head(self.code.fingerprint, self._flags, terms.limits)
        self._sign = self._keyring.call_signer(head, self.queue, self.code.name)
        self._encode = message_encoder(self._message)

    def is_for(self, fn: Callable[..., Any], code: Code, terms: ResolvedOptions) -> bool:
        """Whether this is what would be made of these now."""
        return (
            self.code is code
            and self.fn is fn
            and self.terms is terms
            and self._keyring is self.session.keyring
        )

    def send_plain(self, arguments: Body) -> TaskFuture[Any]:
        """Write a task that `is_plain`, and return its future."""
        session, queue = self.session, self.queue
        task_id = session.make_id()
        task = self.task(task_id, arguments)
        if task.is_staged:
            future = self.future(task_id)
            self._enqueue((task_id,), (task,), future)
            return future
        listener, broker = session.listener, session.broker

        def make() -> TaskFuture[Any]:
            return TaskFuture(session, TaskFacts(task_id, *self._about_rest))

        sending = listener.sending(queue, task_id, make)
        try:
            conflicts = broker.enqueue_one(queue, self.code.fingerprint, task, sending)
            if conflicts is None:
                was_sent = sending.sink is not None
                with sending.lock:  # it may not have been sent at all
                    sending.begin()
                    sending.end()
                conflicts = broker.enqueue(
                    queue, (task,), None, *self._code(), repeated=True, was_sent=was_sent
                )
            if conflicts:
                raise id_conflict(queue, task_id)
            listener.entered(queue, (task_id,), sending.generation)
        except BaseException:
            if sending.sink is not None:
                listener.forget(queue, (task_id,), sending.sink)
            raise
        assert sending.sink is not None
        return sending.sink

    def set_lock(self, digest: str) -> None:
        """The task is unique by its queue, its type and this digest."""
        self._message.unique_key = queue_keys(self.queue).lock(self.about.type, digest)
        self._encode = message_encoder(self._message)

    def task(self, task_id: str, arguments: Body, number: int = 0) -> NewTask:
        """Make a task. ``number`` is its place in a map: with a seed, it has numbers of its own."""
        if len(arguments) > LARGE or self.terms.seed is not None:
            return self._signed_task(task_id, arguments, number)
        assert isinstance(arguments, bytes)
        head = self._sign(task_id, (arguments,))
        return NewTask(task_id, self._encode(task_id, head + arguments))

    def _signed_task(self, task_id: str, arguments: Body, number: int) -> NewTask:
        """A task whose head is its own. Large arguments are stored beside its message, which is
        written anew with each of its ends."""
        code, seed = self.code, self.terms.seed
        own = None if seed is None else Seed(seed, number)
        sign, rest, beside = self.session.keyring.sign_call, b"", None
        pieces: list[Body] = []
        if len(arguments) > LARGE:
            beside, pieces = beside_of(parts_of(arguments))
        else:
            rest = bytes(arguments)
        head = payloads.call_head(code.fingerprint, self._flags, self.terms.limits, beside, own)
        payload = sign(head + rest, task_id, self.queue, code.name)
        return NewTask(task_id, self._encode(task_id, payload), pieces)

    def tasks(self, items: MapItems) -> Sequence[NewTask]:
        """Make the tasks of the next items: as many as go into one slice."""
        name, imports, size = self.code.name, self.code.imports, 0
        dumped: list[Body] = []
        named: list[tuple[Sequence[Any], Mapping[str, Any]]] = []
        generators: list[object] = []
        for item in items.iterator:
            arguments = dump_call(
                tuple(item), {}, callee=name, fn=self.fn, generators=generators, imports=imports
            )
            if generators:
                items.note_generators(self.fn, item, generators)
            dumped.append(arguments)
            named.append((item, {}))
            size += len(arguments)
            if len(dumped) >= _SLICE or size >= _SLICE_BYTES:
                break
        made = _Tasks(self, self.session.make_ids(len(dumped)), dumped, items.count)
        items.count += len(dumped)
        return made if self.terms.options.limit is None else self.limited(list(made), named)

    def _code(self) -> tuple[bytes | None, bytes | None]:
        return self.code.fingerprint, self.code.blob


class MapItems:
    """The sets of arguments of a map that are still to come, and how many were taken."""

    def __init__(self, iterator: Iterator[Sequence[Any]]) -> None:
        self.iterator = iterator
        self.count = 0
        self._generators: dict[int, object] = {}
        self._has_warned = False

    def note_generators(
        self, fn: Callable[..., Any], item: Sequence[Any], generators: list[object]
    ) -> None:
        """Warn if a random generator in the arguments of this task was in those of another.

        Takes the members of ``generators``.
        """
        for generator in generators:
            if id(generator) in self._generators and not self._has_warned:
                self._has_warned = True
                warn_of_shared(fn, tuple(item), generator)
        # They are kept, as the next object could have the id of one that is gone.
        self._generators.update((id(each), each) for each in generators)
        generators.clear()


class _Tasks(Sequence[NewTask]):
    """The tasks of a slice, made when asked for: while the store takes in those before them."""

    def __init__(
        self, call: PreparedCall, ids: list[str], arguments: list[Body], first: int
    ) -> None:
        self.ids = ids
        self._numbers = range(first, first + len(ids))
        self._call = call
        self._arguments = arguments

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> NewTask: ...
    @overload
    def __getitem__(self, index: slice) -> list[NewTask]: ...
    def __getitem__(self, index: int | slice) -> NewTask | list[NewTask]:
        if isinstance(index, slice):
            numbers = self._numbers[index]
            return list(map(self._call.task, self.ids[index], self._arguments[index], numbers))
        return self._call.task(self.ids[index], self._arguments[index], self._numbers[index])


def ids_of(tasks: Sequence[NewTask]) -> list[str]:
    return tasks.ids if isinstance(tasks, _Tasks) else [task.task_id for task in tasks]
