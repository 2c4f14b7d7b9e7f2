"""Send the outcomes of attempts until the store has acknowledged them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.failure import Who
from nbqueue.broker.commands.lifecycle import Ended
from nbqueue.transport.resp import ReplyError, is_transient
from nbqueue.transport.script_call import Command
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.leases import HeldTasks

log = logging.getLogger("nbqueue.worker")

_MOST_AT_ONCE = 128
_MOST_BYTES = 8_000_000
_MOST_UNDER_WAY = 2
_PAUSE = 0.5
_MOST_REFUSALS = 10
_LARGE = 500_000
_MOST_LOSSES = 2

MakeCommand = Callable[[int, Who], Command[Any]]
"""Makes a command, given the time in Unix ms and this worker."""


@dataclass(slots=True, eq=False)
class _Completion:
    """The outcome of an attempt that succeeded. Many are sent together."""

    attempt: Attempt
    ended: Ended
    on_too_large: Callable[[Attempt, int], None]
    losses: int = 0
    """The number of lost connections over which it had been sent."""
    refusals: int = 0


@dataclass(slots=True, eq=False)
class _OtherOutcome:
    """Any other outcome, which has a command of its own."""

    attempt: Attempt
    make_command: MakeCommand
    then: Callable[[Any], None] | None = None
    losses: int = 0
    refusals: int = 0


_Outcome = _Completion | _OtherOutcome


class Acknowledger:
    """Sends outcomes in batches; keeps each until the store acknowledges it.

    After a loss of the store everything unacknowledged is sent again: the fence of each task makes
    that harmless. Outcomes that the store refuses for a while (it is loading, full, failing over)
    are sent again after a pause. An attempt stays in ``held`` until the store has its outcome, so
    that its lease is extended until then.
    """

    def __init__(self, context: ServiceContext, who: Who) -> None:
        self._reactor = context.reactor
        self._connections = context.connections
        self._clock = context.clock
        self._who = who
        self.held = HeldTasks()
        self._completions: dict[str, list[_Completion]] = {}
        """To be sent, by queue."""
        self._others: list[_OtherOutcome] = []
        self._sent: dict[int, _Outcome] = {}
        self._under_way = 0
        self._paused: set[str] = set()
        """Queues whose outcomes wait for a moment, as the store refused some."""
        context.connections.on_up.append(self._send_again)

    @property
    def is_idle(self) -> bool:
        """True if the store has acknowledged every outcome."""
        return not (self._completions or self._others or self._sent)

    def completed(
        self, attempt: Attempt, ended: Ended, on_too_large: Callable[[Attempt, int], None]
    ) -> None:
        """Send that ``attempt`` succeeded.

        ``on_too_large(attempt, size)`` is called if the connection was lost each time that a large
        result was sent; it must give the attempt another outcome.
        """
        self._completions.setdefault(attempt.queue, []).append(
            _Completion(attempt, ended, on_too_large)
        )

    def ended(
        self,
        attempt: Attempt,
        make_command: MakeCommand,
        then: Callable[[Any], None] | None = None,
    ) -> None:
        """Send another outcome of ``attempt``; ``then`` gets the reply to its command."""
        self._others.append(_OtherOutcome(attempt, make_command, then))

    def flush(self) -> None:
        """Send the queued outcomes.

        Once a round; under load the rounds between two replies make the batches.
        """
        if not (self._completions or self._others):
            return
        if self._under_way >= _MOST_UNDER_WAY:
            return
        paused = self._paused
        tasks, now_ms = self._connections.tasks, self._clock.now_ms()
        others, self._others = self._others, []
        for other in others:
            connection = tasks(other.attempt.queue)
            if other.attempt.queue in paused or not connection.is_up:
                self._others.append(other)
                continue
            self._under_way += 1
            self._sent[other.attempt.number] = other
            connection.send(other.make_command(now_ms, self._who), partial(self._on_one, other))
        for queue in list(self._completions):
            connection = tasks(queue)
            if queue in paused or not connection.is_up:
                continue
            batch = self._take_batch(queue)
            self._under_way += 1
            ended: list[Ended] = []
            for completion in batch:
                self._sent[completion.attempt.number] = completion
                ended.append(completion.ended)
            connection.send(
                lifecycle.complete(queue, ended, now_ms, self._who), partial(self._on_batch, batch)
            )

    def _queue(self, outcome: _Outcome) -> None:
        if isinstance(outcome, _Completion):
            self._completions.setdefault(outcome.attempt.queue, []).append(outcome)
        else:
            self._others.append(outcome)

    def _take_batch(self, queue: str) -> list[_Completion]:
        waiting = self._completions.pop(queue)
        if len(waiting) == 1:
            return waiting
        size = count = 0
        for completion in waiting[:_MOST_AT_ONCE]:
            size += completion.ended.result_size + len(completion.ended.msg)
            # One that may be too large for the store goes alone, so that no other is lost with it.
            if count and (size > _MOST_BYTES or completion.losses):
                break
            count += 1
            if completion.losses:
                break
        if count < len(waiting):
            self._completions[queue] = waiting[count:]
        return waiting[:count]

    def _on_batch(self, batch: list[_Completion], reply: Any) -> None:
        self._under_way -= 1
        if isinstance(reply, ReplyError):
            self._refused(batch, reply)
            return
        for completion in batch:
            number = completion.attempt.number
            self._sent.pop(number, None)
            self.held.pop(number, None)
        for position in reply:
            self._log_not_held(batch[position])

    def _on_one(self, outcome: _OtherOutcome, reply: Any) -> None:
        self._under_way -= 1
        if isinstance(reply, ReplyError):
            self._refused([outcome], reply)
            return
        self._forget(outcome)
        if not reply:
            self._log_not_held(outcome)
        if outcome.then is not None:
            outcome.then(reply)

    def _refused(self, batch: Sequence[_Outcome], error: ReplyError) -> None:
        refused("to acknowledge tasks", error)
        if str(error).startswith("ERR Protocol error"):
            # More than the store takes at once. It closes the connection, and all is sent again.
            return
        for outcome in batch:
            self._sent.pop(outcome.attempt.number, None)
            outcome.refusals += not is_transient(error)
            if outcome.refusals < _MOST_REFUSALS:
                self._queue(outcome)
            else:
                # Its lease runs out and the task runs again, which loses nothing.
                log.error("end of a task dropped id=%s error=%s", outcome.attempt.task_id, error)
                self._forget(outcome)
        queue = batch[0].attempt.queue
        if queue not in self._paused:
            self._paused.add(queue)
            self._reactor.after(_PAUSE, lambda: self._paused.discard(queue))

    @staticmethod
    def _log_not_held(outcome: _Outcome) -> None:
        attempt = outcome.attempt
        if outcome.losses or attempt.holder is not None:
            log.debug("end of a task had been acknowledged id=%s", attempt.task_id)
            return
        log.warning(
            "lease lost id=%s type=%s queue=%s attempt=%d: another worker has the task, "
            "or it is no longer in the store; what came of it here is dropped",
            attempt.task_id,
            attempt.message.type,
            attempt.queue,
            attempt.ordinal,
        )

    def _forget(self, outcome: _Outcome) -> None:
        self._sent.pop(outcome.attempt.number, None)
        self.held.pop(outcome.attempt.number, None)

    def _send_again(self) -> None:
        self._under_way = 0
        sent, self._sent = self._sent, {}
        for outcome in sent.values():
            outcome.losses += 1
            if isinstance(outcome, _Completion):
                size = outcome.ended.result_size
                if size > _LARGE and outcome.losses > _MOST_LOSSES:
                    outcome.on_too_large(outcome.attempt, size)
                    continue
            self._queue(outcome)
