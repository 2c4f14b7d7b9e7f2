"""Doing something with many tasks: in slices, with a reason for each that was refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbqueue.broker.broker import Broker
from nbqueue.broker.bulk_moves import act_on_many
from nbqueue.broker.commands import inspect
from nbqueue.broker.commands.inspect import FAR, Moved, ToRun
from nbqueue.broker.reads.store_reader import StoreReader
from nbqueue.client.futures.outcome import RawOutcome
from nbqueue.client.inspection.task_filter import (
    BulkResult,
    Filter,
    is_single,
    named_ids,
    selected_ids,
)
from nbqueue.client.session import Session
from nbqueue.errors import TaskNotFound, TaskStateError, UsageError
from nbqueue.transport.script_call import Command
from nbqueue.wire import fields, states
from nbqueue.wire.keys import stored_keys
from nbqueue.wire.messages import read_message

Move = Callable[[str, Sequence[str], str, "Sequence[int] | None"], Command[Moved]]
"""Makes the command for tasks of a queue; the last two are the only state that is meant, or empty,
and how far from the end of the pending list tasks are; see `nbqueue.broker.bulk_moves`."""

_MISSING = "is not in the store"
_REASONS = {
    "MISSING": _MISSING,
    "MISPLACED": "lies elsewhere just now, such as in a set that is being aggregated",
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
    """Applies one action to what was selected. ``chosen`` is a filter, or else names tasks."""

    def __init__(self, session: Session, reader: StoreReader) -> None:
        self._session = session
        self._reader = reader

    @property
    def _broker(self) -> Broker:
        return self._session.broker

    def move(self, action: str, selection: Any, queue: str | None, move: Move) -> BulkResult:
        """Run the commands that ``move`` makes, for at most so many tasks as one can take."""
        result = BulkResult(action)
        words: dict[str, str] = {}
        wanted = selection.state if isinstance(selection, Filter) else ""
        for name, ids in self._resolve(selection, queue, words):
            act_on_many(
                self._broker,
                name,
                ids,
                lambda part, distances, name=name: move(name, part, wanted, distances),  # type: ignore[misc]
                lambda part, moved: self._note(result, part, moved, words),
            )
        return self._finish(result, selection, words)

    @staticmethod
    def _note(
        result: BulkResult, part: Sequence[str], moved: Moved, words: dict[str, str]
    ) -> list[str]:
        """Note what became of tasks; returns those to try again: they changed since they were
        read, or have to be found in a long pending list."""
        again = []
        result.trimmed += moved.trimmed
        for position, task_id in enumerate(part):
            word = moved.refused.get(position)
            if word is None:
                result.done.append(task_id)
            elif word in ("CHANGED", FAR):
                again.append(task_id)
            else:
                words[task_id] = word
        return again

    def run(
        self, selection: Any, queue: str | None, *, reset: bool, action: str = "run"
    ) -> BulkResult:
        def move(name: str, ids: Sequence[str], wanted: str, _: Any) -> Command[Moved]:
            tasks = self._fresh(name, ids) if reset else [ToRun(task_id) for task_id in ids]
            now_ms = self._session.clock.now_ms()
            return inspect.run(name, tasks, now_ms, wanted=wanted, reset=reset)

        return self.move(action, selection, queue, move)

    def _fresh(self, queue: str, ids: Sequence[str]) -> list[ToRun]:
        """These tasks with messages as if they had never failed."""
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

    def cancel(self, selection: Any, queue: str | None) -> BulkResult:
        result = BulkResult("cancel")
        words: dict[str, str] = {}
        only_waiting = isinstance(selection, Filter) and selection.state != states.ACTIVE
        for name, ids in self._resolve(selection, queue, words):
            answers = self._session.cancel(name, ids, running=not only_waiting)
            for task_id, answer in answers.items():
                if isinstance(answer, RawOutcome):
                    result.done.append(task_id)
                elif answer == states.ACTIVE and not only_waiting:
                    result.asked.append(task_id)
                else:
                    words[task_id] = answer
        return self._finish(result, selection, words)

    def _resolve(
        self, selection: Any, queue: str | None, words: dict[str, str]
    ) -> list[tuple[str, list[str]]]:
        """The ids that are meant, by queue. Notes in ``words`` those that no queue has."""
        if isinstance(selection, Filter):
            return [(selection.queue, selected_ids(self._reader, selection))]
        pairs = named_ids(selection)
        by_queue: dict[str, list[str]] = {}
        unknown = [i for i, known in pairs if known is None and queue is None]
        found = self._reader.find(unknown) if unknown else {}
        for task_id, known in pairs:
            name = known or queue
            if name is None:
                homes = found[task_id]
                if len(homes) > 1:
                    raise UsageError(
                        f"several queues have a task {task_id!r} ({', '.join(homes)}): say queue="
                    )
                if not homes:
                    words[task_id] = "MISSING"
                    continue
                name = homes[0]
            by_queue.setdefault(name, []).append(task_id)
        for name in by_queue:
            stored_keys(name)
        return list(by_queue.items())

    def _finish(self, result: BulkResult, selection: Any, words: dict[str, str]) -> BulkResult:
        for task_id, word in words.items():
            result.refused[task_id] = _REASONS.get(word) or _HINTS.get(word) or f"is {word}"
        if not isinstance(selection, Filter) and is_single(selection) and words:
            [(task_id, word)] = words.items()
            text = f"task {task_id} {result.refused[task_id]}"
            if word == "MISSING":
                raise TaskNotFound(text, task_id)
            state = word if word not in _REASONS else ""
            raise TaskStateError(f"cannot {result.action} it: {text}", task_id, state)
        return result

    def set_payload(self, queue: str, task_id: str, payload: bytes, is_call: Any) -> None:
        """Give a message another payload; ``is_call(payload)`` says of which that cannot be."""
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
