"""Cancelling tasks, any number of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbqueue.broker import commands, inspecting
from nbqueue.broker.command import Command
from nbqueue.broker.inspecting import FAR, Moved
from nbqueue.broker.many import act_on_many
from nbqueue.calls.cancellation import cancellation
from nbqueue.client.cancelling import CANCELLABLE, cancel_running
from nbqueue.client.outcomes import End
from nbqueue.errors import TaskCancelled
from nbqueue.wire import fields, states
from nbqueue.wire.keys import stored_keys

if TYPE_CHECKING:
    from nbqueue.client.session import Session

_BATCH = 1000


class Cancellation:
    """Cancels tasks of one queue: archives what does not run, asks the workers of what does."""

    def __init__(self, session: Session, queue: str) -> None:
        self._session = session
        self._queue = queue
        self._text, self._unsigned = cancellation()
        self._answers: dict[str, End | str] = {}
        self._large: list[str] = []
        self._left = 0

    def run(self, task_ids: Sequence[str], *, running: bool = True) -> dict[str, End | str]:
        """Cancel these tasks; see `Session.cancel`."""
        self._left = len(task_ids)
        # The archive does not keep all of them, and none is to be taken for one that was deleted.
        places = {(self._queue, task_id) for task_id in task_ids}
        cancelling = self._session.listener.cancelling
        cancelling.update(places)
        try:
            broker = self._session.broker
            act_on_many(broker, self._queue, task_ids, self._make, self._note, lazily=True)
        finally:
            cancelling.difference_update(places)
        for task_id in self._large:
            self._cancel_large(task_id)
        if running:
            active = [i for i, answer in self._answers.items() if answer == states.ACTIVE]
            for start in range(0, len(active), _BATCH):
                part = active[start : start + _BATCH]
                self._answers |= cancel_running(self._session, self._queue, part)
        return self._answers

    def _make(self, task_ids: Sequence[str], distances: Sequence[int] | None) -> Command[Moved]:
        errors = [self._error_of(task_id) for task_id in task_ids]
        now_ms = self._session.clock.now_ms()
        self._left -= len(task_ids)
        return inspecting.cancel_tasks(
            self._queue, task_ids, errors, self._text, now_ms, distances, max(self._left, 0)
        )

    def _error_of(self, task_id: str) -> bytes:
        return self._session.keyring.sign_result(self._unsigned, task_id)

    def _note(self, task_ids: Sequence[str], moved: Moved) -> list[str]:
        again = []
        for position, task_id in enumerate(task_ids):
            word = moved.refused.get(position)
            if word is None:
                self._answers[task_id] = self._ended(task_id)
            elif word == FAR:
                self._left += 1
                again.append(task_id)
            elif word == "LARGE":
                self._large.append(task_id)
            else:
                self._answers[task_id] = states.AGGREGATING if word == "MISPLACED" else word
        return again

    def _cancel_large(self, task_id: str) -> None:
        """Cancel one task whose message a script does not change."""
        broker, queue = self._session.broker, self._queue
        while True:
            [(msg, state)] = broker.call(
                ("HMGET", stored_keys(queue).task(task_id), fields.MSG, fields.STATE)
            )
            answer = state.decode("utf-8", "replace") if msg and state else "MISSING"
            if answer in CANCELLABLE:
                now_ms = self._session.clock.now_ms()
                new = commands.failed_message(msg, self._text, now_ms, counts=False)
                body = self._error_of(task_id)
                answer = broker.run(commands.cancel(queue, task_id, msg, new, body, now_ms))
            if answer != "CHANGED":
                is_done = answer == "CANCELLED"
                self._answers[task_id] = self._ended(task_id) if is_done else answer
                return

    @staticmethod
    def _ended(task_id: str) -> End:
        return End(states.ARCHIVED, error=TaskCancelled("the task was cancelled", task_id))
