"""Actions on many tasks, in slices, with a reason for each task that was refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nbqueue.broker.broker import Broker
from nbqueue.broker.bulk_moves import act_on_many
from nbqueue.broker.commands import inspect
from nbqueue.broker.commands.inspect import FAR, Moved, ToRun
from nbqueue.broker.reads.store_reader import StoreReader
from nbqueue.calls.payloads import is_call
from nbqueue.client.inspection.task_filter import (
    BulkResult,
    TaskFilter,
    check_where,
    is_single,
    make_filter,
    moment_ms,
    named_ids,
    selected_ids,
)
from nbqueue.client.inspection.task_names import find_named, queue_named
from nbqueue.client.results.outcome import RawOutcome
from nbqueue.durations import Duration, parse_duration
from nbqueue.errors import TaskNotFound, TaskStateError, UsageError
from nbqueue.transport.script_call import Command
from nbqueue.wire import fields, states
from nbqueue.wire.keys import stored_keys
from nbqueue.wire.messages import read_message

if TYPE_CHECKING:
    from nbqueue.client.session import Session

Move = Callable[[str, Sequence[str], str, "Sequence[int] | None"], Command[Moved]]
"""Makes the command for tasks of a queue: (queue, ids, wanted, distances).

``wanted`` is the only state that tasks may have, or empty; ``distances`` is how far from the end of
the pending list they are, see `nbqueue.broker.bulk_moves`."""

_MOST_NAMES = 100
"""Texts that no queue has as an id are looked up as names, unless there are more of them."""

_MISSING = "is not in the store"
_REASONS = {
    "MISSING": _MISSING,
    "MISPLACED": "is being moved just now, such as into an aggregation set",
}
_HINTS = {
    states.ACTIVE: "is running: cancel it",
    states.PENDING: "is pending",
    states.SCHEDULED: "is scheduled",
    states.RETRY: "waits for its retry",
    states.ARCHIVED: "is archived",
    states.COMPLETED: "is completed",
    states.AGGREGATING: "waits in an aggregation group",
}


class BulkActions:
    """Moves, cancels and deletes tasks; see `nbqueue.Inspector` for how to choose them.

    ``selection`` names tasks; without one ``where`` is a filter.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _broker(self) -> Broker:
        return self._session.broker

    @property
    def _reader(self) -> StoreReader:
        self._session.check_open()
        return StoreReader(self._session.broker)

    # --- Actions -------------------------------------------------------------------------------

    def run(self, selection: Any = None, *, reset: bool = False, **where: Any) -> BulkResult:
        """Make tasks pending; with ``reset`` they forget their failures."""
        return self._run("run", selection, where, reset)

    def retry(self, selection: Any = None, **where: Any) -> BulkResult:
        """Make tasks pending again, with all of their retries; of a group those that failed."""
        if hasattr(selection, "futures") and hasattr(selection, "retry"):
            check_where(selection, where)
            result: BulkResult = selection.retry()
            return result
        return self._run("retry", selection, where, True)

    def _run(
        self, action: str, selection: Any, where: Mapping[str, Any], reset: bool
    ) -> BulkResult:
        def move(name: str, ids: Sequence[str], wanted: str, _: Any) -> Command[Moved]:
            tasks = self._without_failures(name, ids) if reset else [ToRun(i) for i in ids]
            return inspect.run(name, tasks, self._now_ms(), wanted=wanted, reset=reset)

        return self._move(action, selection, where, move)

    def archive(
        self, selection: Any = None, *, keep_lock: bool = False, **where: Any
    ) -> BulkResult:
        """Archive tasks that do not run."""

        def move(
            name: str, ids: Sequence[str], wanted: str, distances: Sequence[int] | None
        ) -> Command[Moved]:
            return inspect.archive_by_hand(
                name, ids, self._now_ms(), wanted=wanted, keep_lock=keep_lock, distances=distances
            )

        return self._move("archive", selection, where, move)

    def delete(self, selection: Any = None, *, keep_lock: bool = False, **where: Any) -> BulkResult:
        """Delete tasks that do not run."""

        def move(
            name: str, ids: Sequence[str], wanted: str, distances: Sequence[int] | None
        ) -> Command[Moved]:
            return inspect.delete(
                name, ids, self._now_ms(), wanted=wanted, keep_lock=keep_lock, distances=distances
            )

        return self._move("delete", selection, where, move)

    def reschedule(
        self,
        selection: Any = None,
        *,
        at: datetime | None = None,
        delay: Duration | None = None,
        **where: Any,
    ) -> BulkResult:
        """Make tasks due at another time."""
        due_ms = self._due_ms(at, delay)

        def move(
            name: str, ids: Sequence[str], wanted: str, distances: Sequence[int] | None
        ) -> Command[Moved]:
            return inspect.reschedule(
                name, ids, due_ms, self._now_ms(), wanted=wanted, distances=distances
            )

        return self._move("reschedule", selection, where, move)

    def cancel(self, selection: Any = None, **where: Any) -> BulkResult:
        """Archive tasks as cancelled, and ask the workers of running ones to end them."""
        chosen, queue = self._choose(selection, where)
        result = BulkResult("cancel")
        refusals: dict[str, str] = {}
        only_waiting = isinstance(chosen, TaskFilter) and chosen.state != states.ACTIVE
        for name, ids in self._resolve(chosen, queue, refusals):
            answers = self._session.cancel(name, ids, running=not only_waiting)
            for task_id, answer in answers.items():
                if isinstance(answer, RawOutcome):
                    result.done.append(task_id)
                elif answer == states.ACTIVE and not only_waiting:
                    result.asked.append(task_id)
                else:
                    refusals[task_id] = answer
        return self._finish(result, chosen, refusals)

    def filter(self, where: Mapping[str, Any]) -> TaskFilter:
        """Check a filter; see `make_filter`. Raises `UsageError` and `QueueNotFound`."""
        where = dict(where)
        queue, state = where.pop("queue", None), where.pop("state", None)
        if isinstance(queue, str):
            queue = queue_named(self._broker, queue)
        chosen = make_filter(queue, state, self._now_ms(), **where)
        self._reader.check_queue(chosen.queue)
        return chosen

    # --- Steps ---------------------------------------------------------------------------------

    def _now_ms(self) -> int:
        return self._session.clock.now_ms()

    def _due_ms(self, at: datetime | None, delay: Duration | None) -> int:
        if at is not None and delay is None:
            due_ms = moment_ms(at, "at")
        elif delay is not None and at is None:
            due_ms = self._now_ms() + round(parse_duration(delay, "delay") * 1000)
        else:
            raise UsageError("say when with one of at= and delay=")
        if not 0 <= due_ms < 2**53:
            raise UsageError(f"at={at!r} is too far away")
        return due_ms

    def _choose(
        self, selection: Any, where: Mapping[str, Any]
    ) -> tuple[TaskFilter | Any, str | None]:
        """Return a checked filter, or else the selection and the queue in which its tasks are."""
        self._session.check_open()
        check_where(selection, where)
        if selection is None:
            return self.filter(where), None
        queue = where.get("queue")
        if isinstance(queue, str):
            queue = queue_named(self._broker, queue)
        if queue is not None:
            self._reader.checked_names([queue])
        return selection, queue

    def _move(
        self, action: str, selection: Any, where: Mapping[str, Any], move: Move
    ) -> BulkResult:
        """Run the commands that ``move`` makes, each for as many tasks as one command can take."""
        chosen, queue = self._choose(selection, where)
        result = BulkResult(action)
        refusals: dict[str, str] = {}
        wanted = chosen.state if isinstance(chosen, TaskFilter) else ""
        for name, ids in self._resolve(chosen, queue, refusals):
            act_on_many(
                self._broker,
                name,
                ids,
                lambda part, distances, name=name: move(name, part, wanted, distances),  # type: ignore[misc]
                lambda part, moved: self._note(result, part, moved, refusals),
            )
        return self._finish(result, chosen, refusals)

    @staticmethod
    def _note(
        result: BulkResult, part: Sequence[str], moved: Moved, refusals: dict[str, str]
    ) -> list[str]:
        """Note what became of tasks; return those to try again.

        These have changed since they were read, or must be searched for in a long pending list.
        """
        again = []
        result.trimmed += moved.trimmed
        for position, task_id in enumerate(part):
            word = moved.refused.get(position)
            if word is None:
                result.done.append(task_id)
            elif word in ("CHANGED", FAR):
                again.append(task_id)
            else:
                refusals[task_id] = word
        return again

    def _without_failures(self, queue: str, ids: Sequence[str]) -> list[ToRun]:
        """Return tasks to run with messages as if they had never failed."""
        keys = stored_keys(queue)
        found = self._broker.call(*(("HGET", keys.task(i), fields.MSG) for i in ids), on=queue)
        tasks = []
        for task_id, msg in zip(ids, found, strict=True):
            message = read_message(msg) if msg else None
            if message is None or msg is None:
                tasks.append(ToRun(task_id))
                continue
            for forgotten in ("retried", "error_msg", "last_failed_at"):
                message.ClearField(forgotten)
            tasks.append(ToRun(task_id, msg, message.SerializeToString(deterministic=True)))
        return tasks

    def _resolve(
        self, selection: Any, queue: str | None, refusals: dict[str, str]
    ) -> list[tuple[str, list[str]]]:
        """Return the ids of the chosen tasks by queue; note in ``refusals`` what no queue has."""
        if isinstance(selection, TaskFilter):
            return [(selection.queue, selected_ids(self._reader, selection))]
        pairs = named_ids(selection)
        by_queue: dict[str, list[str]] = {}
        unknown = [i for i, known in pairs if known is None and queue is None]
        found = self._reader.find(unknown) if unknown else {}
        is_short = len(unknown) <= _MOST_NAMES
        for task_id, known in pairs:
            name = known or queue
            if name is None:
                homes = found[task_id]
                if len(homes) > 1:
                    raise UsageError(
                        f"several queues have a task {task_id!r} ({', '.join(homes)}): say queue="
                    )
                if not homes:
                    named = find_named(self._session, task_id) if is_short else None
                    if named is None:
                        refusals[task_id] = "MISSING"
                        continue
                    task_id, name = named
                else:
                    name = homes[0]
            by_queue.setdefault(name, []).append(task_id)
        for name in by_queue:
            stored_keys(name)
        return list(by_queue.items())

    def _finish(self, result: BulkResult, selection: Any, refusals: dict[str, str]) -> BulkResult:
        for task_id, word in refusals.items():
            result.refused[task_id] = _REASONS.get(word) or _HINTS.get(word) or f"is {word}"
        if not isinstance(selection, TaskFilter) and is_single(selection) and refusals:
            [(task_id, word)] = refusals.items()
            text = f"task {task_id} {result.refused[task_id]}"
            if word == "MISSING":
                raise TaskNotFound(text, task_id)
            state = word if word not in _REASONS else ""
            raise TaskStateError(f"cannot {result.action} it: {text}", task_id, state)
        return result

    def set_payload(self, queue: str, task_id: str, payload: bytes) -> None:
        """Give a message another payload, while no worker has begun it."""
        key = stored_keys(queue).task(task_id)
        while True:
            [msg] = self._broker.call(("HGET", key, fields.MSG), on=queue)
            message = read_message(msg) if msg else None
            if message is None or msg is None:
                raise TaskNotFound(f"task {task_id} {_MISSING}", task_id)
            if is_call(message.payload):
                raise UsageError(
                    f"task {task_id} is a call, whose payload is signed: delete it, and submit "
                    "the call with other arguments"
                )
            message.payload = payload
            new = message.SerializeToString(deterministic=True)
            word = self._broker.run(inspect.set_payload(queue, task_id, msg, new))
            if word == "WRITTEN":
                return
            if word == "MISSING":
                raise TaskNotFound(f"task {task_id} {_MISSING}", task_id)
            if word != "CHANGED":
                reason = _HINTS.get(word, f"is {word}")
                raise TaskStateError(
                    f"cannot change the payload: task {task_id} {reason}, and only what is "
                    "pending or scheduled can be changed",
                    task_id,
                    word,
                )
