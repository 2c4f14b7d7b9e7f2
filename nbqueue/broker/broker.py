"""Blocking broker of a client: runs commands, and reads tasks back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain

from nbqueue.broker.call_deadline import CallDeadline
from nbqueue.broker.commands.enqueue import OneByOne, name_task, unconfirmed
from nbqueue.broker.known_limits import KnownLimits
from nbqueue.broker.large_values import whole_result
from nbqueue.broker.new_tasks import (
    ENQUEUED,
    NO_OPTIONS,
    EnqueueRequest,
    EnqueueResult,
    read_replies,
)
from nbqueue.broker.reads.slices import QUEUES_AT_ONCE, in_slices
from nbqueue.broker.reads.task_record import (
    RECORD_FIELDS,
    Ending,
    TaskRecord,
    first_record,
    read_record,
)
from nbqueue.broker.resilient_calls import MEASURE_SECONDS, PATIENCE, ResilientCaller
from nbqueue.clock import Clock
from nbqueue.errors import StoreError, StoreUnreachable, SubmitUnconfirmed
from nbqueue.store.connection import Store
from nbqueue.store.refusal_errors import KeyDenied
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport import resp
from nbqueue.transport.blocking import BlockingConnection
from nbqueue.transport.router import place_of
from nbqueue.transport.script_call import Arg
from nbqueue.transport.topology import Key
from nbqueue.wire import fields, states
from nbqueue.wire.attempts import is_last_failure
from nbqueue.wire.decoding import stream_entry, text
from nbqueue.wire.keys import QUEUES, queue_keys, stored_keys, stored_name
from nbqueue.wire.messages import is_same_task, read_message

_BATCH = 256
_BATCH_OF_ENDS = 64
_REGISTER_SECONDS = 0.002
_REGISTER_ELSEWHERE_SECONDS = 0.5
_REGISTER_LATER_SECONDS = 60.0
_MOST_KEPT = 64
_QUEUES = Key(QUEUES)


class Broker(ResilientCaller):
    """Changes and reads tasks, for a client.

    One connection, shared by the client's threads.
    """

    def __init__(
        self, store: Store, patience: float = PATIENCE, clock: Clock | None = None
    ) -> None:
        super().__init__(store, patience, clock)
        self._registered: dict[str, tuple[bytes, float]] = {}
        self._one_by_one: dict[tuple[str, bytes | None], OneByOne] = {}
        self.known_limits = KnownLimits()

    def enqueue(self, request: EnqueueRequest) -> EnqueueResult:
        """Write new tasks, and return which of them were left out.

        Code is sent along once, if the store lacks it. After a lost connection the call resumes
        where it was, and no task is written twice.

        Raises `SubmitUnconfirmed` if tasks may be in the store, else `StoreUnreachable`.
        """
        if request.limits:
            self._write_limits(request)
        deadline: CallDeadline | None = None
        repeated = was_sent = with_code = False
        while True:
            try:
                result = self._try_enqueue(request, with_code, repeated)
            except StoreUnreachable as error:
                deadline = deadline or CallDeadline(self._patience)
                was_sent = was_sent or error.was_sent
                if not deadline.wait():
                    if was_sent:
                        raise unconfirmed(request.queue, request.tasks, error) from error
                    raise
                repeated = True
                continue
            if result is not None:
                break
            if with_code or request.blob is None:
                raise StoreError(f"the store lacks the code that tasks for {request.queue!r} need")
            with_code = True
        if request.name is not None and result is ENQUEUED:
            self._write_name(request, request.name)
        return result

    def _try_enqueue(
        self, request: EnqueueRequest, with_code: bool, repeated: bool
    ) -> EnqueueResult | None:
        """Write new tasks once; None if the store lacks their code."""
        queue, tasks = request.queue, request.tasks
        connection = self._router.connection(queue)
        registration = self._register(queue)
        now_ms = self.clock.now_ms()
        number = connection.number
        is_first = not (with_code or repeated)
        is_plain = is_first and len(tasks) == 1 and request[4:] == NO_OPTIONS
        if is_plain and not tasks[0].is_staged:
            # The only shortcut on the way of a task into the store: the bytes of the ordinary
            # command, packed in fewer steps. Row A1 of the benchmarks pays for it.
            place = queue, request.fingerprint
            one_by_one = self._one_by_one.get(place) or self._add_one_by_one(*place)
            data = one_by_one.pack(tasks[0], now_ms)
            reply = connection.run_packed(one_by_one.script, data, registration)
            conflicts = one_by_one.read(reply, now_ms)
            if conflicts is None:
                return None
            result: EnqueueResult | None = EnqueueResult(conflicts) if conflicts else ENQUEUED
        else:
            first, after = request.preparations(now_ms, with_code), request.after
            is_one = all(self._router.connection(place_of(each)) is connection for each in after)
            after = after if is_one else ()
            commands = chain(first, request.commands(now_ms, repeated), after)
            replies = connection.run(commands, registration)
            result = read_replies(replies[len(first) : len(replies) - len(after)])
            if not is_one:
                self._router.run(request.after)
        if result is None or result.holder is not None:
            return result
        if self._confirmation is not None:
            self._confirm(connection, number)
        if result.conflicts and repeated:
            others = self._conflicts_of_others(queue, tasks, result.conflicts)
            return EnqueueResult(others) if others else ENQUEUED
        return result

    def _add_one_by_one(self, queue: str, fingerprint: bytes | None) -> OneByOne:
        if len(self._one_by_one) >= _MOST_KEPT:
            self._one_by_one.clear()
        found = self._one_by_one[queue, fingerprint] = OneByOne(
            queue, fingerprint, self._router.adapt
        )
        return found

    def _write_limits(self, request: EnqueueRequest) -> None:
        """Make the limits of new tasks known to the store."""
        queue, now_ms = request.queue, self.clock.now_ms()
        commands = self.known_limits.commands(queue, request.limits, request.due_ms, now_ms)
        for part in in_slices(commands, _BATCH):
            self.run_all(part)
        self.known_limits.note(queue, request.limits)

    def _write_name(self, request: EnqueueRequest, name: str) -> None:
        [task_id] = request.ids
        try:
            self.run_confirmed(name_task(request.queue, task_id, name, request.name_seconds))
        except StoreUnreachable as error:
            raise SubmitUnconfirmed(
                f"task {task_id!r} is in the store, but perhaps not its name {name!r}: "
                f"q.get({task_id!r}) finds it by its id. {error}",
                [task_id],
            ) from error

    def _register(self, queue: str) -> bytes:
        """Make sure that the queue's name is in the store.

        Any process may remove it.

        It is in another slot, so a script cannot write it (protocol H.3, 16). Returns a packed
        command to send along with the next script; empty if the name was written just now.
        """
        now = time.monotonic()
        known = self._registered.get(queue)
        if known is None or (now - known[1] > 1.0 and self.clock.age() > MEASURE_SECONDS):
            if known is None:
                self._check_rights(queue)
            # It is there before its first task. And the clock is measured now and then.
            if self.store.is_schema_due:
                self.store.note_schema()
            self._timed_call(("SADD", QUEUES, queue), on=_QUEUES)
            self._registered[queue] = resp.pack(("SADD", QUEUES, queue)), now
            return b""
        again, at = known
        if now - at < _REGISTER_SECONDS:
            return b""
        names = self._router.connection(_QUEUES)
        if names is not self._router.connection(queue):
            self._register_elsewhere(names, queue, now)
            return b""
        self._registered[queue] = again, now
        return again

    def _register_elsewhere(self, names: BlockingConnection, queue: str, now: float) -> None:
        """Write a name again that is on another server, which may be away meanwhile."""
        again, at = self._registered[queue]
        if now - at >= _REGISTER_ELSEWHERE_SECONDS:
            # Later, should that server hang; then a call takes long.
            self._registered[queue] = again, now + _REGISTER_LATER_SECONDS
            with suppress(StoreUnreachable):
                names.call(("SADD", QUEUES, queue))
                self._registered[queue] = again, now

    def forget_queue(self, queue: str) -> None:
        """Forget that a queue is registered, as it was removed.

        The next task writes the name of the queue, and its limits, again.
        """
        self._registered.pop(queue, None)
        self.known_limits.forget(queue)

    def _conflicts_of_others(
        self, queue: str, tasks: Sequence[NewTask], conflicts: Sequence[int]
    ) -> list[int]:
        """Return the positions that conflict with tasks of other callers.

        Leaves out the tasks that an earlier try wrote and that have changed since, for example by
        running.
        """
        found = self._router.connection(queue).call(
            *(("HGET", queue_keys(queue).task(tasks[i].task_id), fields.MSG) for i in conflicts)
        )
        return [
            position
            for position, msg in zip(conflicts, found, strict=True)
            if msg is not None and not is_same_task(bytes(tasks[position].msg), msg)
        ]

    def queues(self) -> list[str]:
        """The names of all queues that a task was ever enqueued to, sorted.

        Programs in Go may have made some that nbqueue does not serve; see `stored_keys`.
        """
        [names] = self.call(("SMEMBERS", QUEUES), on=Key(QUEUES))
        return sorted(stored_name(name) for name in names)

    def find(self, task_id: str, queue: str | None = None) -> TaskRecord | None:
        """Read a task from its queue, or from any queue that has it."""
        names = [queue] if queue is not None else self.queues()
        if not names:
            return None
        found = self.try_call_each(
            (name, ("HMGET", stored_keys(name).task(task_id), *RECORD_FIELDS)) for name in names
        )
        if queue is not None and isinstance(found[0], KeyDenied):
            raise found[0]
        readable = [
            (name, values)
            for name, values in zip(names, found, strict=True)
            if not isinstance(values, KeyDenied)
        ]
        record = first_record(task_id, *zip(*readable, strict=True)) if readable else None
        if record is None or not record.result:
            return record
        return record._replace(result=whole_result(self, record.queue, task_id, record.result))

    def read(self, queue: str, task_ids: Iterable[str]) -> list[TaskRecord | None]:
        """Read many tasks of one queue, in order; ``None`` for missing tasks."""
        keys = stored_keys(queue)
        ids = list(task_ids)
        records: list[TaskRecord | None] = []
        for start in range(0, len(ids), _BATCH):
            part = ids[start : start + _BATCH]
            replies = self.call(*(("HMGET", keys.task(i), *RECORD_FIELDS) for i in part), on=queue)
            records += [read_record(queue, values) for values in replies]
        return records

    def state_now(self, queue: str, task_id: str) -> str | None:
        """Read the state of a task; None if it does not exist.

        Raises `StoreUnreachable` at once.
        """
        connection = self._router.connection(queue)
        [state] = connection.call(("HGET", stored_keys(queue).task(task_id), fields.STATE))
        return state.decode("utf-8", "replace") if state else None

    def states(self, queue: str, task_ids: Iterable[str]) -> list[str | None]:
        """Read the states of many tasks of one queue; ``None`` for missing tasks."""
        keys = stored_keys(queue)
        ids = list(task_ids)
        found: list[str | None] = []
        for start in range(0, len(ids), _BATCH):
            part = ids[start : start + _BATCH]
            replies = self.call(*(("HGET", keys.task(i), fields.STATE) for i in part), on=queue)
            found += [text(reply) if reply else None for reply in replies]
        return found

    def endings(self, queue: str, task_ids: Iterable[str]) -> list[Ending | None]:
        """Read the outcomes of tasks of one queue, in order; ``None`` for missing tasks.

        Their messages, which may be as large as their results, are mostly not read.
        """
        ids = list(task_ids)
        found: dict[str, Ending | None] = {}
        while left := [task_id for task_id in ids if task_id not in found][:_BATCH_OF_ENDS]:
            found.update(self._endings(queue, left))
        return [found[task_id] for task_id in ids]

    def _endings(self, queue: str, ids: Sequence[str]) -> dict[str, Ending | None]:
        """Return the records of those ``ids`` whose state does not change meanwhile."""
        keys = stored_keys(queue)
        calls: list[Sequence[Arg]] = []
        for task_id in ids:
            key = keys.task(task_id)
            # The result is a reply of its own, for that is read without a copy.
            calls += (
                ("HGET", key, fields.STATE),
                ("HGET", key, fields.RESULT),
                ("HMGET", key, fields.STATE, fields.ERROR, fields.FAILED),
            )
        replies = iter(self.call(*calls, on=queue))
        found: dict[str, Ending | None] = {}
        marks: dict[str, bytes | None] = {}
        for task_id, state, result, (still, error, mark) in zip(
            ids, replies, replies, replies, strict=True
        ):
            if state != still:
                continue
            if result:
                result = whole_result(self, queue, task_id, result)
            marks[task_id] = mark
            found[task_id] = None if state is None else Ending(
                text(state), result or b"", error or b""
            )  # fmt: skip
        for task_id, end in found.items():
            if end is not None and end.state == states.ARCHIVED:
                [msg] = self.call(("HGET", keys.task(task_id), fields.MSG), on=queue)
                message = read_message(msg) if msg else None
                if message is not None and not (
                    end.error and is_last_failure(message, marks[task_id])
                ):
                    found[task_id] = end._replace(error=b"", error_text=message.error_msg)
        return found

    def attempts(
        self, queue: str, since_ms: int | None = None, limit: int | None = None
    ) -> list[dict[str, str]]:
        """Read the newest ``limit`` finished attempts of a queue, oldest first."""
        key = stored_keys(queue).attempts
        start = "-" if since_ms is None else str(since_ms)
        rows: list[dict[str, str]] = []
        last = "+"
        while limit is None or len(rows) < limit:
            count = 2000 if limit is None else min(2000, limit - len(rows))
            [entries] = self.call(("XREVRANGE", key, last, start, "COUNT", count), on=queue)
            for _, pairs in entries:
                rows.append(stream_entry(pairs))
            if len(entries) < count:
                break
            last = "(" + entries[-1][0].decode()
        rows.reverse()
        return rows

    def with_attempts(self, queues: Sequence[str]) -> list[str]:
        """Return those of ``queues`` that keep finished attempts.

        A queue whose key for attempts holds a value of another type is among them.
        """
        found: list[str] = []
        for part in in_slices(queues, QUEUES_AT_ONCE):
            sizes = self.try_call_each(
                (queue, ("XLEN", stored_keys(queue).attempts)) for queue in part
            )
            found += [queue for queue, size in zip(part, sizes, strict=True) if size]
        return found
