"""Schedules as Asynq's programs see them: ``asynq cron ls``, ``cron history``, Asynqmon.

All workers of a queue write the same record, so each schedule is listed once, for as long as one of
them lives. It lies outside the queue's slot, so it follows the schedules and is never read by us.
"""

from __future__ import annotations

from collections.abc import Sequence

from nbqueue.clock import Clock
from nbqueue.transport.nonblocking import NonblockingConnection
from nbqueue.wire.keys import SCHEDULERS, queue_keys, scheduler_entries, scheduler_history
from nbqueue.wire.schedule_record import (
    NBQUEUE_SCHEDULER,
    ScheduleEntry,
    asynq_entry,
    asynq_event,
    asynq_id,
)
from nbqueue.worker.connections import WorkerConnections

TTL = 20
"""Seconds for which a record lives: twice Asynq's heartbeat."""

MOST_EVENTS = 1_000

Row = tuple[ScheduleEntry, int | None, int | None]


class ScheduleRecords:
    """See the module."""

    def __init__(self, links: WorkerConnections, clock: Clock) -> None:
        self._links = links
        self._clock = clock
        self._written: set[str] = set()
        self._listed: dict[str, set[str]] = {}

    def write(self, queue: str, rows: Sequence[Row]) -> None:
        """Write the record of a queue: each schedule, when it is due and when it last was."""
        link = self._links.upkeep
        if link is None:
            return
        listed = {asynq_id(queue, entry.id) for entry, _, _ in rows}
        for gone in self._listed.get(queue, set()) - listed:
            link.call(("DEL", scheduler_history(gone)))
        self._listed[queue] = listed
        if not rows:
            self._remove(link, queue)
            return
        key = _record(queue)
        self._written.add(queue)
        link.call(("ZADD", SCHEDULERS, self._clock.now_ms() // 1000 + TTL, key))
        # As one transaction, or a reader may meet half of it.
        link.call(("MULTI",))
        link.call(("DEL", key))
        link.call(("RPUSH", key, *(asynq_entry(queue, *row) for row in rows)))
        link.call(("EXPIRE", key, TTL))
        link.call(("EXEC",))

    def fired(self, queue: str, entry: ScheduleEntry, task_id: str) -> None:
        """Note that a schedule enqueued this task."""
        link = self._links.upkeep
        if link is None:
            return
        now_ms = self._clock.now_ms()
        key = scheduler_history(asynq_id(queue, entry.id))
        link.call(("ZREMRANGEBYRANK", key, 0, -MOST_EVENTS))
        link.call(("ZADD", key, now_ms // 1000, asynq_event(task_id, now_ms)))

    def keep_only(self, queues: Sequence[str]) -> None:
        """Remove the records of queues that this worker serves no more."""
        self.close([queue for queue in self._written if queue not in queues])
        self._listed = {name: ids for name, ids in self._listed.items() if name in queues}

    def close(self, queues: Sequence[str]) -> None:
        """Remove the records. Other workers, which are told, write them again."""
        link = self._links.upkeep
        if link is None:
            return
        for queue in queues:
            if queue in self._written:
                self._remove(link, queue)
                link.call(("PUBLISH", queue_keys(queue).wake, "schedules"))

    def _remove(self, link: NonblockingConnection, queue: str) -> None:
        if queue in self._written:
            self._written.discard(queue)
            key = _record(queue)
            link.call(("ZREM", SCHEDULERS, key))
            link.call(("DEL", key))


def _record(queue: str) -> str:
    return scheduler_entries(NBQUEUE_SCHEDULER + queue)
