"""Acknowledging: what happened to a task goes to the store, and again until the store has it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.lifecycle import Command, Ended, Who
from nbqueue.clock import Clock
from nbqueue.runtime.reactor import Reactor
from nbqueue.transport.resp import ReplyError, is_transient
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks.attempt import Attempt

log = logging.getLogger("nbqueue.worker")

_MOST_AT_ONCE = 128
_MOST_BYTES = 8_000_000
_MOST_UNDER_WAY = 2
_PAUSE = 0.5
_MOST_REFUSALS = 10
_LARGE = 500_000
_MOST_LOSSES = 2

MakeCommand = Callable[[int, Who], Command[Any]]


@dataclass(slots=True, eq=False)
class _End:
    """The end of one attempt, until the store has acknowledged it."""

    run: Attempt
    what: Ended | MakeCommand
    then: Callable[[Any], None] | None = None
    losses: int = 0
    refusals: int = 0


class Acknowledger:
    """Sends ends of attempts in batches, and keeps each until it is acknowledged.

    After a loss of the store everything unacknowledged is sent again: the fence of each task makes
    that harmless. What the store refuses for a while (it is loading, full, failing over) is sent
    again after a pause. ``held`` are the tasks whose lease is ours; a task leaves it when the
    store has its end, not before, so that its lease is extended until then.

    ``on_too_large(run, size)`` is called for a result over which the connection was lost each time
    it was sent; it must end the attempt in another way.
    """

    def __init__(self, reactor: Reactor, links: WorkerConnections, clock: Clock, who: Who) -> None:
        self._reactor = reactor
        self._links = links
        self._clock = clock
        self._who = who
        self.held: dict[int, Attempt] = {}
        self._good: dict[str, list[_End]] = {}
        self._other: list[_End] = []
        self._sent: dict[int, _End] = {}
        self._under_way = 0
        self._is_pausing = False
        self.on_too_large: Callable[[Attempt, int], None]
        links.on_up.append(self._send_again)

    @property
    def is_idle(self) -> bool:
        """True if the store has acknowledged everything."""
        return not (self._good or self._other or self._sent)

    def hold(self, run: Attempt) -> None:
        self.held[run.number] = run

    def completed(self, run: Attempt, ended: Ended) -> None:
        """The attempt ended well."""
        self._good.setdefault(run.queue, []).append(_End(run, ended))

    def otherwise(
        self, run: Attempt, make: MakeCommand, then: Callable[[Any], None] | None = None
    ) -> None:
        """The attempt ended in another way, by the command that ``make(now_ms, who)`` makes.
        ``then`` gets what it reads as."""
        self._queue(_End(run, make, then))

    def flush(self) -> None:
        """Send. Once a round; under load the rounds between two replies make the batches."""
        if not (self._good or self._other):
            return
        link = self._links.tasks
        if link is None or self._under_way >= _MOST_UNDER_WAY or self._is_pausing:
            return
        now_ms = self._clock.now_ms()
        ends, self._other = self._other, []
        for end in ends:
            assert not isinstance(end.what, Ended)
            self._note([end])
            link.send(end.what(now_ms, self._who), partial(self._on_one, end))
        for queue in list(self._good):
            batch = self._take_batch(queue)
            self._note(batch)
            ended = [end.what for end in batch if isinstance(end.what, Ended)]
            link.send(
                lifecycle.complete(queue, ended, now_ms, self._who), partial(self._on_batch, batch)
            )

    def _queue(self, end: _End) -> None:
        if isinstance(end.what, Ended):
            self._good.setdefault(end.run.queue, []).append(end)
        else:
            self._other.append(end)

    def _take_batch(self, queue: str) -> list[_End]:
        waiting = self._good.pop(queue)
        size = count = 0
        for end in waiting[:_MOST_AT_ONCE]:
            assert isinstance(end.what, Ended)
            size += end.what.result_size + len(end.what.msg)
            # One that may be too large for the store goes alone, so that no other goes with it.
            if count and (size > _MOST_BYTES or end.losses):
                break
            count += 1
            if end.losses:
                break
        if count < len(waiting):
            self._good[queue] = waiting[count:]
        return waiting[:count]

    def _note(self, batch: list[_End]) -> None:
        self._under_way += 1
        for end in batch:
            self._sent[end.run.number] = end

    def _on_batch(self, batch: list[_End], reply: Any) -> None:
        self._under_way -= 1
        if isinstance(reply, ReplyError):
            self._refused(batch, reply)
            return
        for end in batch:
            self._forget(end)
        for position in reply:
            self._log_not_held(batch[position])

    def _on_one(self, end: _End, reply: Any) -> None:
        self._under_way -= 1
        if isinstance(reply, ReplyError):
            self._refused([end], reply)
            return
        self._forget(end)
        if not reply:
            self._log_not_held(end)
        if end.then is not None:
            end.then(reply)

    def _refused(self, batch: list[_End], error: ReplyError) -> None:
        refused("to acknowledge tasks", error)
        if str(error).startswith("ERR Protocol error"):
            # More than it takes at once; it hangs up now, and this is sent again like all else.
            return
        for end in batch:
            self._sent.pop(end.run.number, None)
            end.refusals += not is_transient(error)
            if end.refusals < _MOST_REFUSALS:
                self._queue(end)
            else:
                # The lease runs out and the task runs again: better than to say that it ended.
                log.error("end of a task dropped id=%s error=%s", end.run.task_id, error)
                self._forget(end)
        if not self._is_pausing:
            self._is_pausing = True
            self._reactor.after(_PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._is_pausing = False

    @staticmethod
    def _log_not_held(end: _End) -> None:
        run = end.run
        if end.losses or run.holder is not None:
            log.debug("end of a task had been acknowledged id=%s", run.task_id)
            return
        log.warning(
            "lease lost id=%s type=%s queue=%s attempt=%d: another worker has the task, "
            "or it is no longer in the store; what came of it here is dropped",
            run.task_id,
            run.message.type,
            run.queue,
            run.attempt,
        )

    def _forget(self, end: _End) -> None:
        self._sent.pop(end.run.number, None)
        self.held.pop(end.run.number, None)

    def _send_again(self) -> None:
        self._under_way = 0
        sent, self._sent = self._sent, {}
        for end in sent.values():
            end.losses += 1
            large = end.what.result_size if isinstance(end.what, Ended) else 0
            if large > _LARGE and end.losses > _MOST_LOSSES:
                self.on_too_large(end.run, large)
            else:
                self._queue(end)
