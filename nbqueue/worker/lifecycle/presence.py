"""Write a worker's record into the store, for people and other workers."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbqueue.broker.commands import presence
from nbqueue.broker.commands.requirements import list_capabilities, unlist_capabilities
from nbqueue.requirements import offered_by
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.server_info import (
    ACTIVE,
    RunningTask,
    WorkerRecord,
    shown_payload,
)
from nbqueue.worker.executors.begun_attempts import BegunAttempt, begun_attempts
from nbqueue.worker.executors.pool import Pool
from nbqueue.worker.maintenance.service import Service, checked
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.settings import WorkerSettings
from nbqueue.worker.store_refusals import accepted, refused

log = logging.getLogger("nbqueue.worker")

_LIST_AGAIN = 60.0
_LONG = float("inf")


class Presence(Service):
    """Writes the worker's record with its running tasks, every five seconds.

    ``on_seen`` is called once, when the worker is in the store for the first time.
    """

    def __init__(
        self,
        context: ServiceContext,
        pool: Pool,
        settings: WorkerSettings,
        on_seen: Callable[[], None] | None = None,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._worker_id = context.worker_id
        self._queues = context.queues.weights
        self._offered = offered_by(settings.python)
        self._started_at = context.clock.now()
        self._status = ACTIVE
        self._has_left = False
        self._listed: dict[str, float] = {}
        self._on_seen = on_seen
        super().__init__(context, 5.0)

    def stop(self) -> None:
        super().stop()
        self._listed.clear()

    def set_status(self, status: str) -> None:
        """Show the worker with another status from now on."""
        self._status = status
        self.run_once()

    def set_started(self) -> None:
        """Show now as the time at which the worker started."""
        self._started_at = self._clock.now()

    def forget(self, queue: str) -> None:
        """Remove the worker from the list of workers of ``queue``."""
        self._listed.pop(queue, None)
        connection = self._connections.upkeep(queue)
        connection.call(presence.unlist(self._worker_id, queue), _log_refusal)
        connection.call(unlist_capabilities(self._worker_id, queue, self._offered), _log_refusal)

    def run_once(self) -> None:
        if self._has_left or not self._connections.is_up:
            return
        tasks = [self._shown(each) for each in begun_attempts(self._pool)]
        record = WorkerRecord(
            self._worker_id,
            self._settings.concurrency,
            self._queues,
            self._settings.strict_priority,
            self._status,
            self._started_at,
            len(tasks),
        )
        self._list()
        own = self._connections.registry()
        own.send(
            presence.heartbeat_worker(record, tasks), lambda reply: self._on_written(checked(reply))
        )

    def _list(self) -> None:
        """List the worker as alive.

        Lists it with queues that are new or were listed long ago.
        """
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
        connection = self._connections.registry()
        connection.call(words[0], _log_refusal if due else self._on_sign)
        for each in words[1:]:
            # Other workers notice the change later anyway, so a refused PUBLISH does not matter.
            connection.call(each, None if each[0] == "PUBLISH" else _log_refusal)

    def _on_sign(self, reply: Any) -> None:
        _log_refusal(reply)
        if reply == 1 and not self._has_left:
            # It was no longer listed: the store has been emptied.
            self._listed.clear()
            self._list()

    def leave(self, then: Callable[[], None]) -> None:
        """Delete the record, then call ``then``.

        Calls it at once if the store is away.
        """
        self._has_left = True
        self.stop()
        if self._settings.health_file is not None:
            Path(self._settings.health_file).unlink(missing_ok=True)
        connection = self._connections.registry()
        if not connection.is_up:
            then()
            return
        for words in presence.vanish(self._worker_id, self._queues):
            connection.call(words, _log_refusal)
        for queue in self._queues:
            connection.call(
                unlist_capabilities(self._worker_id, queue, self._offered), _log_refusal
            )
        connection.call(("ECHO", "left"), lambda reply: then())

    def _shown(self, each: BegunAttempt) -> RunningTask:
        attempt, now = each.attempt, self._reactor.now()
        shown = (
            f"{attempt.message.type}(…)".encode()
            if attempt.call is not None
            else shown_payload(bytes(attempt.payload))
        )
        return RunningTask(
            attempt.task_id,
            attempt.message.type,
            shown,
            attempt.queue,
            self._clock.now() - (now - each.since),
            attempt.ends_at,
        )

    def _on_written(self, written: int | None) -> None:
        if written is not None:
            self._connections.confirm()
            accepted()
        on_seen, self._on_seen = self._on_seen, None
        if on_seen is not None:
            on_seen()
        if self._has_left or written is None:
            return
        if self._settings.health_file is not None:
            try:
                with open(self._settings.health_file, "ab"):
                    os.utime(self._settings.health_file)
            except OSError as error:
                log.error("health file cannot be written error=%s", error)


def _log_refusal(reply: Any) -> None:
    if isinstance(reply, ReplyError):
        refused("the record of the worker", reply)
