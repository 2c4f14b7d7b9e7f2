"""Acknowledging: what happened to a task goes to the store, and again until the store has it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from nbqueue.broker import commands
from nbqueue.broker.commands import Command, Ended, Who
from nbqueue.broker.resp import ReplyError
from nbqueue.clock import Clock
from nbqueue.worker.links import Links
from nbqueue.worker.runs import Run

log = logging.getLogger("nbqueue.worker")

_MOST_AT_ONCE = 128
_MOST_UNDER_WAY = 2

MakeCommand = Callable[[int, Who], Command[bool]]


class Finisher:
    """Sends ends of attempts in batches, and keeps each until it is acknowledged.

    After a loss of the store everything unacknowledged is sent again: the fence of each task makes
    that harmless. ``held`` are the tasks whose lease is ours; a task leaves it when the store has
    its end, not before, so that its lease is extended until then.
    """

    def __init__(self, links: Links, clock: Clock, who: Who) -> None:
        self._links = links
        self._clock = clock
        self._who = who
        self.held: dict[int, Run] = {}
        self._good: dict[str, list[tuple[Run, Ended]]] = {}
        self._other: list[tuple[Run, MakeCommand]] = []
        self._sent: dict[int, tuple[Run, Ended | MakeCommand]] = {}
        self._under_way = 0
        links.on_up.append(self._send_again)

    @property
    def is_idle(self) -> bool:
        """True if the store has acknowledged everything."""
        return not (self._good or self._other or self._sent)

    def hold(self, run: Run) -> None:
        self.held[run.number] = run

    def completed(self, run: Run, ended: Ended) -> None:
        """The attempt ended well."""
        self._good.setdefault(run.queue, []).append((run, ended))

    def otherwise(self, run: Run, make: MakeCommand) -> None:
        """The attempt ended in another way, by the command that ``make(now_ms, who)`` makes."""
        self._other.append((run, make))

    def flush(self) -> None:
        """Send. Once a round; under load the rounds between two replies make the batches."""
        link = self._links.tasks
        if link is None or self._under_way >= _MOST_UNDER_WAY:
            return
        now_ms = self._clock.now_ms()
        for run, make in self._other:
            self._sent[run.number] = (run, make)
            self._under_way += 1
            link.send(make(now_ms, self._who), partial(self._on_one, run))
        self._other.clear()
        for queue in list(self._good):
            waiting = self._good.pop(queue)
            batch = waiting[:_MOST_AT_ONCE]
            if len(waiting) > _MOST_AT_ONCE:
                self._good[queue] = waiting[_MOST_AT_ONCE:]
            for run, ended in batch:
                self._sent[run.number] = (run, ended)
            self._under_way += 1
            link.send(
                commands.complete(queue, [ended for _, ended in batch], now_ms, self._who),
                partial(self._on_batch, batch),
            )

    def _on_batch(self, batch: list[tuple[Run, Ended]], reply: Any) -> None:
        self._under_way -= 1
        refused = self._checked(reply, [])
        for run, _ in batch:
            self._forget(run)
        for position in refused:
            self._log_refused(batch[position][0])

    def _on_one(self, run: Run, reply: Any) -> None:
        self._under_way -= 1
        if not self._checked(reply, True):
            self._log_refused(run)
        self._forget(run)

    @staticmethod
    def _checked(reply: Any, otherwise: Any) -> Any:
        if isinstance(reply, ReplyError):
            # The lease runs out and the task runs again: better than to say that it ended.
            log.error("store refused an acknowledgement error=%s", reply)
            return otherwise
        return reply

    @staticmethod
    def _log_refused(run: Run) -> None:
        log.warning(
            "lease lost id=%s type=%s queue=%s attempt=%d: another worker has the task, "
            "and what came of it here is dropped",
            run.task_id,
            run.message.type,
            run.queue,
            run.attempt,
        )

    def _forget(self, run: Run) -> None:
        self._sent.pop(run.number, None)
        self.held.pop(run.number, None)

    def _send_again(self) -> None:
        self._under_way = 0
        sent, self._sent = self._sent, {}
        for run, what in sent.values():
            if isinstance(what, Ended):
                self.completed(run, what)
            else:
                self.otherwise(run, what)

    def drop(self, runs: Iterable[Run]) -> None:
        """These are not ours any more."""
        for run in runs:
            self.held.pop(run.number, None)
