"""Read the last reports of workers and schedulers from Asynq's records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from nbqueue.broker.broker import Broker
from nbqueue.broker.reads.models import ActiveTask, SchedulerEntry, SchedulerEvent, ServerInfo
from nbqueue.clock import EPOCH
from nbqueue.errors import StoreDamaged
from nbqueue.transport.topology import Key
from nbqueue.wire import server_reports
from nbqueue.wire.decoding import text
from nbqueue.wire.keys import SCHEDULERS, SERVERS, WORKERS, scheduler_history

T = TypeVar("T")


class AsynqRecords:
    """Reads records through a `Broker`. Those that cannot be read are left out, see ``faults``."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.faults: dict[str, None] = {}
        """Records that could not be read so far, each with the reason."""

    def servers(self) -> list[ServerInfo]:
        """Return the workers that reported recently, by host and process id."""
        running: dict[str, list[ActiveTask]] = {}
        for key, values in self._read(WORKERS, lambda key: ("HVALS", key)):
            for worker in self._readable(server_reports.read_worker, key, values):
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
        reports = self._read(SERVERS, lambda key: ("GET", key))
        servers = [
            each
            for key, value in reports
            for each in self._readable(server_reports.read_server, key, [value])
        ]
        for server in servers:
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
        for key, values in self._read(SCHEDULERS, lambda key: ("LRANGE", key, 0, -1)):
            for entry in self._readable(server_reports.read_entry, key, values):
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
            for event in self._readable(server_reports.read_event, key.encode(), found)
        ]
        return [SchedulerEvent(task_id, at) for task_id, at in moments if at is not None]

    def _read(self, index: str, ask: Callable[[bytes], Sequence[Any]]) -> list[tuple[bytes, Any]]:
        """Read the keys of an index that have not expired, each with its value.

        The others are removed from the index.
        """
        now_s = self._broker.clock.now_ms() // 1000
        names, _ = self._broker.try_call(
            ("ZRANGEBYSCORE", index, now_s, "+inf"),
            ("ZREMRANGEBYSCORE", index, "-inf", f"({now_s}"),
            on=Key(index),
        )
        if isinstance(names, StoreDamaged):
            self.faults[str(names)] = None
            return []
        values = self._broker.try_call_each((Key(name), ask(name)) for name in names)
        found = []
        for name, value in zip(names, values, strict=True):
            if isinstance(value, StoreDamaged):
                self.faults[str(value)] = None
            else:
                found.append((name, value))
        return found

    def _readable(
        self, read: Callable[[bytes], T | None], key: bytes, values: Sequence[bytes | None]
    ) -> list[T]:
        found = []
        for value in filter(None, values):
            each = read(value)
            if each is not None:
                found.append(each)
            else:
                self.faults[f"{text(key)!r} holds a record that cannot be decoded"] = None
        return found
