"""Records of schedules for Asynq's programs: ``asynq cron ls``, ``cron history``, Asynqmon.

All workers of a queue write one record, so each schedule is listed once while any of them runs. The
record is outside the queue's slot: it is a copy, and nbqueue never reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

from nbqueue.wire.keys import SCHEDULERS, queue_keys, scheduler_entries, scheduler_history
from nbqueue.wire.schedule_record import (
    NBQUEUE_SCHEDULER,
    ScheduleEntry,
    asynq_entry,
    asynq_event,
    asynq_id,
)
from nbqueue.worker.service_context import ServiceContext

TTL = 20
"""Seconds for which a record lives: twice Asynq's heartbeat."""

MOST_EVENTS = 1_000

Row = tuple[ScheduleEntry, int | None, int | None]


class ScheduleRecords:
    """Writes the records of the queues whose schedules this worker fires."""

    def __init__(self, context: ServiceContext) -> None:
        self._connections = context.connections
        self._clock = context.clock
        self._written: set[str] = set()
        self._listed: dict[str, set[str]] = {}

    def write(self, queue: str, rows: Sequence[Row]) -> None:
        """Write the record of a queue.

        A row: a schedule, when it is due, when it last was.
        """
        connection = self._connections.registry()
        if not connection.is_up:
            return
        listed = {asynq_id(queue, entry.id) for entry, _, _ in rows}
        for gone in self._listed.get(queue, set()) - listed:
            connection.call(("DEL", scheduler_history(gone)))
        self._listed[queue] = listed
        if not rows:
            self._remove(queue)
            return
        key = _record(queue)
        self._written.add(queue)
        connection.call(("ZADD", SCHEDULERS, self._clock.now_ms() // 1000 + TTL, key))
        # As one transaction, so that no reader sees half of it.
        connection = self._connections.registry(key)
        connection.call(("MULTI",))
        connection.call(("DEL", key))
        connection.call(("RPUSH", key, *(asynq_entry(queue, *row) for row in rows)))
        connection.call(("EXPIRE", key, TTL))
        connection.call(("EXEC",))

    def fired(self, queue: str, entry: ScheduleEntry, task_id: str) -> None:
        """Add a task that a schedule has enqueued to its history."""
        connection = self._connections.registry()
        now_ms = self._clock.now_ms()
        key = scheduler_history(asynq_id(queue, entry.id))
        connection.call(("ZREMRANGEBYRANK", key, 0, -MOST_EVENTS))
        connection.call(("ZADD", key, now_ms // 1000, asynq_event(task_id, now_ms)))

    def keep_only(self, queues: Sequence[str]) -> None:
        """Remove the records of all other queues."""
        self.close([queue for queue in self._written if queue not in queues])
        self._listed = {name: ids for name, ids in self._listed.items() if name in queues}

    def close(self, queues: Sequence[str]) -> None:
        """Remove the records of these queues.

        Other workers then write them again.
        """
        connection = self._connections.registry()
        if not connection.is_up:
            return
        for queue in queues:
            if queue in self._written:
                self._remove(queue)
                connection.call(("PUBLISH", queue_keys(queue).wake, "schedules"))

    def _remove(self, queue: str) -> None:
        if queue in self._written:
            self._written.discard(queue)
            key = _record(queue)
            connection = self._connections.registry()
            connection.call(("ZREM", SCHEDULERS, key))
            connection.call(("DEL", key))


def _record(queue: str) -> str:
    return scheduler_entries(NBQUEUE_SCHEDULER + queue)
