"""Read the last reports of workers and schedulers from Asynq's records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from nbqueue.broker.broker import Broker
from nbqueue.broker.reads.models import ActiveTask, SchedulerEntry, SchedulerEvent, ServerInfo
from nbqueue.clock import EPOCH
from nbqueue.transport.topology import Key
from nbqueue.wire import server_reports
from nbqueue.wire.keys import SCHEDULERS, SERVERS, WORKERS, scheduler_history

T = TypeVar("T")


class AsynqRecords:
    """Reads records through a `Broker`. Records that cannot be read are left out."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def servers(self) -> list[ServerInfo]:
        """Return the workers that reported recently, by host and process id."""
        running: dict[str, list[ActiveTask]] = {}
        for values in self._read(WORKERS, lambda key: ("HVALS", key)):
            for worker in _readable(server_reports.read_worker, values):
                running.setdefault(worker.server_id, []).append(
                    ActiveTask(
                        task_id=worker.task_id,
                        type=worker.task_type,
                        payload=worker.task_payload,
                        queue=worker.queue,
                        started_at=server_reports.moment(worker.start_time) or EPOCH,
                        deadline=server_reports.moment(worker.deadline),
                    )
                )
        found = []
        for server in _readable(
            server_reports.read_server, self._read(SERVERS, lambda k: ("GET", k))
        ):
            tasks = sorted(running.get(server.server_id, ()), key=lambda task: task.started_at)
            found.append(
                ServerInfo(
                    id=server.server_id,
                    host=server.host,
                    pid=server.pid,
                    concurrency=server.concurrency,
                    queues=dict(server.queues),
                    strict_priority=server.strict_priority,
                    started_at=server_reports.moment(server.start_time) or EPOCH,
                    status=server.status,
                    active_tasks=tuple(tasks),
                )
            )
        return sorted(found, key=lambda server: (server.host, server.pid, server.id))

    def scheduler_entries(self) -> list[SchedulerEntry]:
        """Return the schedules of all schedulers that reported recently, by their times."""
        found = []
        for values in self._read(SCHEDULERS, lambda key: ("LRANGE", key, 0, -1)):
            for entry in _readable(server_reports.read_entry, values):
                found.append(
                    SchedulerEntry(
                        id=entry.id,
                        spec=entry.spec,
                        type=entry.task_type,
                        payload=entry.task_payload,
                        options=tuple(entry.enqueue_options),
                        next_at=server_reports.moment(entry.next_enqueue_time),
                        previous_at=server_reports.moment(entry.prev_enqueue_time),
                    )
                )
        return sorted(found, key=lambda entry: (entry.spec, entry.id))

    def scheduler_events(self, entry_id: str, page: int, size: int) -> list[SchedulerEvent]:
        """Return the tasks that a schedule enqueued, newest first; ``page`` counts from 1."""
        start, key = (page - 1) * size, scheduler_history(entry_id)
        [found] = self._broker.call(("ZREVRANGE", key, start, start + size - 1), on=Key(key))
        moments: list[tuple[str, datetime | None]] = [
            (event.task_id, server_reports.moment(event.enqueue_time))
            for event in _readable(server_reports.read_event, found)
        ]
        return [SchedulerEvent(task_id, at) for task_id, at in moments if at is not None]

    def _read(self, index: str, ask: Callable[[bytes], Sequence[Any]]) -> list[Any]:
        """Read the keys of an index that have not expired.

        The others are removed from the index.
        """
        now_s = self._broker.clock.now_ms() // 1000
        names, _ = self._broker.call(
            ("ZRANGEBYSCORE", index, now_s, "+inf"),
            ("ZREMRANGEBYSCORE", index, "-inf", f"({now_s}"),
            on=Key(index),
        )
        return self._broker.call_each((Key(name), ask(name)) for name in names)


def _readable(read: Callable[[bytes], T | None], values: Sequence[bytes | None]) -> list[T]:
    found = [read(value) for value in values if value]
    return [each for each in found if each is not None]
