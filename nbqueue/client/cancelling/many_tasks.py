"""Cancelling any number of tasks of a queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbqueue.broker.bulk_moves import MOST_FOUND, act_on_many
from nbqueue.broker.commands import failure, inspect, maintenance
from nbqueue.broker.commands.inspect import FAR, UNSIGNED, Moved
from nbqueue.broker.commands.retention import ARCHIVE_CAP
from nbqueue.calls.cancellation import cancellation
from nbqueue.client.cancelling.tasks_in_go import CANCELLABLE, cancel_running
from nbqueue.client.results.outcome import CANCELLED, RawOutcome
from nbqueue.transport.script_call import Command
from nbqueue.wire import fields, states
from nbqueue.wire.keys import stored_keys

if TYPE_CHECKING:
    from nbqueue.client.session import Session

_BATCH = 1000


_ARCHIVED_US, _DELETED_US = 25.0, 10.0
"""Microseconds of a script for one task that is archived, and for one that is deleted.

The archive drops a task for later ones of the same call.
"""

_ASIDE_MS = 60_000
"""Milliseconds after which uncancelled tasks with a large message are pending again."""


class Cancellation:
    """Archives tasks that do not run, and cancels the running ones through their workers."""

    def __init__(self, session: Session, queue: str) -> None:
        self._session = session
        self._queue = queue
        self._text, self._unsigned = cancellation()
        self._answers: dict[str, RawOutcome | str] = {}
        self._large: list[str] = []
        self._left = 0
        self._needs_errors = False
        """True if scripts return signed errors, because other clients await the tasks."""

    def run(self, task_ids: Sequence[str], *, running: bool = True) -> dict[str, RawOutcome | str]:
        """Cancel these tasks; see `Session.cancel`."""
        self._left = len(task_ids)
        broker, listener = self._session.broker, self._session.listener
        with listener.cancellations.during(self._queue, task_ids, self._answers):
            act_on_many(
                *(broker, self._queue, task_ids, self._make, self._note),
                lazily=True,
                cost=self._cost,
            )
            if self._large:
                self._cancel_large()
        if running:
            active = [i for i, answer in self._answers.items() if answer == states.ACTIVE]
            for start in range(0, len(active), _BATCH):
                part = active[start : start + _BATCH]
                self._answers |= cancel_running(self._session, self._queue, part)
        return self._answers

    def _is_kept(self) -> bool:
        """Return whether the archive keeps the next tasks, by its default limits."""
        return self._left < ARCHIVE_CAP

    def _cost(self) -> float:
        return _ARCHIVED_US if self._left < ARCHIVE_CAP + MOST_FOUND else _DELETED_US

    def _make(self, task_ids: Sequence[str], distances: Sequence[int] | None) -> Command[Moved]:
        self._left = max(self._left - len(task_ids), 0)
        errors: Sequence[bytes] = (b"",) * len(task_ids)
        if self._needs_errors or self._is_kept():
            errors = [self._error_of(task_id) for task_id in task_ids]
        return inspect.cancel_tasks(
            *(self._queue, task_ids, errors, self._text, self._session.clock.now_ms(), distances),
            later=self._left,
            listener=self._session.listener.heard_prefix(self._queue),
        )

    def _error_of(self, task_id: str) -> bytes:
        return self._session.keyring.sign_result(self._unsigned, task_id)

    def _note(self, task_ids: Sequence[str], moved: Moved) -> list[str]:
        if not moved.refused:
            self._answers.update(dict.fromkeys(task_ids, CANCELLED))
            return []
        again = []
        for position, task_id in enumerate(task_ids):
            word = moved.refused.get(position)
            if word is None:
                self._answers[task_id] = CANCELLED
            elif word in (FAR, UNSIGNED):
                self._needs_errors |= word == UNSIGNED
                again.append(task_id)
            elif word == "LARGE":
                self._large.append(task_id)
            else:
                self._answers[task_id] = states.AGGREGATING if word == "MISPLACED" else word
        self._left += len(again)
        return again

    def _cancel_large(self) -> None:
        """Cancel tasks one by one whose messages are too large for a script to change.

        They leave the pending list together, as removing them from there one by one takes long.
        """

        def aside(task_ids: Sequence[str], distances: Sequence[int] | None) -> Command[Moved]:
            now_ms = self._session.clock.now_ms()
            return inspect.set_aside(self._queue, task_ids, now_ms + _ASIDE_MS, now_ms, distances)

        def again(task_ids: Sequence[str], moved: Moved) -> list[str]:
            return [task_ids[i] for i, word in moved.refused.items() if word == FAR]

        for start in range(0, len(self._large), _BATCH):
            part = self._large[start : start + _BATCH]
            act_on_many(self._session.broker, self._queue, part, aside, again)
            for task_id in part:
                self._cancel_one_large(task_id)

    def _cancel_one_large(self, task_id: str) -> None:
        broker, queue = self._session.broker, self._queue
        while True:
            [(msg, state)] = broker.call(
                ("HMGET", stored_keys(queue).task(task_id), fields.MSG, fields.STATE), on=queue
            )
            answer = state.decode("utf-8", "replace") if msg and state else "MISSING"
            if answer in CANCELLABLE:
                now_ms = self._session.clock.now_ms()
                new = failure.failed_message(msg, self._text, now_ms, counts=False)
                body = self._error_of(task_id)
                answer = broker.run(maintenance.cancel(queue, task_id, msg, new, body, now_ms))
            if answer != "CHANGED":
                self._answers[task_id] = CANCELLED if answer == "CANCELLED" else answer
                return
