"""What a worker says of itself in the store, so that people and other workers see it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nbqueue.broker.commands import presence
from nbqueue.broker.commands.requirements import list_capabilities, unlist_capabilities
from nbqueue.clock import Clock
from nbqueue.requirements import offered_by
from nbqueue.runtime.reactor import Reactor
from nbqueue.transport.nonblocking import NonblockingConnection
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.server_info import (
    ACTIVE,
    RunningTask,
    WorkerRecord,
    shown_payload,
)
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.executors.executor_process import SYNC
from nbqueue.worker.executors.pool import Pool
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.settings import WorkerSettings
from nbqueue.worker.store_refusals import accepted, refused
from nbqueue.worker.tasks.attempt import Attempt

log = logging.getLogger("nbqueue.worker")

NOTED_AFTER = 1.0
"""Seconds that a task runs before the store is told that it has begun."""

_LIST_AGAIN = 60.0
_LONG = float("inf")


class Begun(NamedTuple):
    """A run that an executor has begun, and since when, on the reactor's clock."""

    run: Attempt
    since: float


def begun(pool: Pool) -> Iterator[Begun]:
    """The runs that have really begun; what waits behind another has not."""
    for executor in pool.executors:
        if not executor.ready:
            continue
        for run in executor.runs.values():
            yield Begun(run, executor.began_at if executor.kind == SYNC else run.sent_at)
            if executor.kind == SYNC:
                break


class Presence(Service):
    """Writes, every five seconds, that the worker is there, and what it runs."""

    def __init__(
        self,
        reactor: Reactor,
        links: WorkerConnections,
        clock: Clock,
        pool: Pool,
        settings: WorkerSettings,
        worker_id: str,
        queues: dict[str, int],
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._worker_id = worker_id
        self._queues = queues
        self._offered = offered_by(settings.python)
        self._started_at = clock.now()
        self._status = ACTIVE
        self._has_left = False
        self._listed: dict[str, float] = {}
        self._then: Callable[[], None] | None = None
        super().__init__(reactor, links, clock, 5.0)

    def stop(self) -> None:
        super().stop()
        self._listed.clear()

    def say(self, status: str) -> None:
        """Have the worker shown with another status, now and from now on."""
        self._status = status
        self.run_once()

    def when_seen(self, then: Callable[[], None]) -> None:
        """Call ``then`` when the worker can be seen in the store for the first time."""
        self._started_at = self._clock.now()
        self._then = then

    def forget(self, queue: str) -> None:
        """Take the worker off the list of those who serve ``queue``."""
        self._listed.pop(queue, None)
        link = self._links.upkeep
        if link is not None:
            link.call(presence.unlist(self._worker_id, queue), _log_refusal)
            link.call(unlist_capabilities(self._worker_id, queue, self._offered), _log_refusal)

    def run_once(self) -> None:
        link = self._links.upkeep
        if link is None or self._has_left:
            return
        tasks = [self._shown(each) for each in begun(self._pool)]
        record = WorkerRecord(
            self._worker_id,
            self._settings.concurrency,
            self._queues,
            self._settings.strict_priority,
            self._status,
            self._started_at,
            len(tasks),
        )
        self._list(link)
        self._send(presence.appear(record, tasks), self._on_written)

    def _list(self, link: NonblockingConnection) -> None:
        """Say that we live; to new queues, and now and then to all, also that we serve them."""
        now, now_ms = self._reactor.now(), self._clock.now_ms()
        recent = now - _LIST_AGAIN
        due = [queue for queue in self._queues if self._listed.get(queue, -_LONG) <= recent]
        if due:
            new = [queue for queue in due if queue not in self._listed]
            words = presence.listing(self._worker_id, due, now_ms)
            words += presence.arrival(self._worker_id, new)
            words += list_capabilities(self._worker_id, due, self._offered, now_ms // 1000)
            self._listed.update(dict.fromkeys(due, now))
        else:
            words = presence.signs_of_life(self._worker_id, now_ms)
        link.call(words[0], _log_refusal if due else self._on_sign)
        for each in words[1:]:
            # What is only told, others find later.
            link.call(each, None if each[0] == "PUBLISH" else _log_refusal)

    def _on_sign(self, reply: Any) -> None:
        _log_refusal(reply)
        link = self._links.upkeep
        if reply == 1 and link is not None and not self._has_left:
            # We were listed no more: the store was emptied.
            self._listed.clear()
            self._list(link)

    def leave(self, then: Callable[[], None]) -> None:
        """Delete it all; call ``then`` when the store has done so, or at once if it is away."""
        self._has_left = True
        self.stop()
        if self._settings.health_file is not None:
            Path(self._settings.health_file).unlink(missing_ok=True)
        link = self._links.upkeep
        if link is None:
            then()
            return
        for words in presence.vanish(self._worker_id, self._queues):
            link.call(words, _log_refusal)
        for queue in self._queues:
            link.call(unlist_capabilities(self._worker_id, queue, self._offered), _log_refusal)
        link.call(("ECHO", "left"), lambda reply: then())

    def _shown(self, each: Begun) -> RunningTask:
        run, now = each.run, self._reactor.now()
        shown = (
            f"{run.message.type}(…)".encode()
            if run.call is not None
            else shown_payload(bytes(run.payload))
        )
        return RunningTask(
            run.task_id,
            run.message.type,
            shown,
            run.queue,
            self._clock.now() - (now - each.since),
            run.ends_at,
        )

    def _on_written(self, written: int | None) -> None:
        if written is not None:
            self._links.confirm()
            accepted()
        then, self._then = self._then, None
        if then is not None:
            then()
        if self._has_left or written is None:
            return
        if self._settings.health_file is not None:
            try:
                with open(self._settings.health_file, "ab"):
                    os.utime(self._settings.health_file)
            except OSError as error:
                log.error("health file cannot be written error=%s", error)


class BeginNotes(Service):
    """Tells the store of each task that has run for a second that it has begun.

    Should this worker die, those may be why, and the others are not (docs/decisions/0008).
    """

    def __init__(
        self, reactor: Reactor, links: WorkerConnections, clock: Clock, pool: Pool
    ) -> None:
        self._pool = pool
        super().__init__(reactor, links, clock, NOTED_AFTER / 2)

    def run_once(self) -> None:
        before = self._reactor.now() - NOTED_AFTER
        by_queue: dict[str, list[Attempt]] = {}
        for run, since in begun(self._pool):
            if since <= before and not run.is_noted:
                by_queue.setdefault(run.queue, []).append(run)
        for queue, runs in by_queue.items():
            for start in range(0, len(runs), 500):
                part = runs[start : start + 500]
                tasks = [(run.task_id, run.fence, run.fetches) for run in part]
                self._send(presence.begin(queue, tasks), partial(_note, part))


def _note(runs: list[Attempt], held: int | None) -> None:
    if held is not None:
        for run in runs:
            run.is_noted = True


def _log_refusal(reply: Any) -> None:
    if isinstance(reply, ReplyError):
        refused("the record of the worker", reply)
