"""Keep the store's schedules equal to those that a worker's providers return.

A provider runs in an executor, as an attempt of a message that is not in the store. If it fails or
asks for an invalid schedule, nothing changes. Schedules of users and of other providers stay
unchanged. Workers with a provider of one name keep one set of schedules.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

from nbqueue.broker.commands.lifecycle import Fetched
from nbqueue.broker.commands.schedules import put_schedule, remove_schedule
from nbqueue.broker.due_times import first_due
from nbqueue.calls import payloads
from nbqueue.cron import parse_spec
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame
from nbqueue.tasks.periodic import PROVIDER_TYPE, digest_of
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.keys import QUEUES, queue_keys
from nbqueue.wire.messages import TaskMessage
from nbqueue.wire.schedule_record import ScheduleEntry, decode_entry, encode_entry
from nbqueue.worker.executors.executor_process import ExecutorExit
from nbqueue.worker.executors.waiting_attempts import WaitingAttempts
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.decisions import Refusal

log = logging.getLogger("nbqueue.worker")

PROVIDER_TIMEOUT = 60

Wanted = dict[str, dict[str, ScheduleEntry]]


class PeriodicSync(Service):
    """Calls one provider every ``interval`` seconds."""

    def __init__(
        self,
        context: ServiceContext,
        waiting: WaitingAttempts,
        name: str,
        interval: float,
        number: int,
    ) -> None:
        self._waiting = waiting
        self._queues = context.queues.names
        self._name = name
        self._number = number
        self._running: Attempt | None = None
        self._closed = False
        super().__init__(context, interval)

    def close(self) -> None:
        """Call the provider no more."""
        self.stop()
        self._closed = True

    def run_once(self) -> None:
        if self._closed:
            self.stop()
        if self._closed or self._running is not None:
            return
        kind = PROVIDER_TYPE + self._name
        message = TaskMessage(type=kind, queue=self._queues[0], timeout=PROVIDER_TIMEOUT)
        now_ms = self._clock.now_ms()
        task = Fetched(kind, b"", None, 1, 0)
        attempt = Attempt(self._number, self._queues[0], task, message, "", now_ms, self)
        self._running = attempt
        self._waiting.add(attempt)

    def done(self, attempt: Attempt, done: DoneFrame) -> None:
        """Compare the provider's schedules with those in the store."""
        if done.outcome != pipe.VALUE:
            self._failed(done.error_text or "it was stopped")
            return
        self._running = None
        try:
            wanted = self._understood(json.loads(bytes(done.body)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("provider refused name=%r error=%s", self._name, error)
            return
        for queue in self._queues:
            self._connections.upkeep(queue).call(
                ("HGETALL", queue_keys(queue).schedules),
                partial(self._on_entries, queue, wanted[queue]),
            )

    def lost(self, attempt: Attempt, exit: ExecutorExit, innocent: bool) -> None:
        """Leave the schedules as they are until the next call."""
        self._failed("its executor is gone")

    def refused(self, attempt: Attempt, refusal: Refusal) -> None:
        """Leave the schedules as they are until the next call."""
        self._failed(refusal.decision.error_text)

    def give_back(self, attempt: Attempt, how: str, reason: str) -> None:
        """Leave the schedules as they are until the next call."""
        self._failed("its executor is gone")

    def reported(self, attempt: Attempt, kind: int, body: bytes) -> None:
        """Drop a report of the provider, which has no task to show it."""

    def _failed(self, why: str) -> None:
        self._running = None
        log.error("provider failed name=%r error=%s", self._name, why)

    def _understood(self, wishes: Iterable[dict[str, Any]]) -> Wanted:
        wanted: Wanted = {queue: {} for queue in self._queues}
        for each in wishes:
            queue = each["queue"]
            if queue not in wanted:
                raise ValueError(f"queue={queue!r} is none that this worker serves")
            entry = self._entry(each)
            parse_spec(entry.spec, entry.tz)
            wanted[queue][entry.id] = entry
        return wanted

    def _entry(self, wish: dict[str, Any]) -> ScheduleEntry:
        payload = base64.b64decode(wish["payload"])
        if payloads.is_call(payload):
            raise ValueError("a payload begins as a call of nbqueue does")
        message = TaskMessage(
            type=wish["type"],
            payload=payload,
            queue=wish["queue"],
            retry=wish["retry"],
            timeout=wish["timeout"],
            retention=wish["retention"],
            headers=wish["headers"],
        )
        digest = digest_of({**wish, "owner": self._name})
        entry = ScheduleEntry(
            id=f"{wish['type']}-{digest}".replace(" ", "_"),
            spec=wish["spec"],
            tz=wish["tz"],
            message=message.SerializeToString(deterministic=True),
            text="",
            revision=digest[:6],
            missed=wish["missed"],
            overlap=wish["overlap"],
            jitter_ms=wish["jitter_ms"],
            owner=self._name,
            created_ms=self._clock.now_ms(),
        )
        return decode_entry(encode_entry(entry))

    def _on_entries(self, queue: str, wanted: dict[str, ScheduleEntry], reply: Any) -> None:
        if isinstance(reply, ReplyError):
            refused(f"to give schedules queue={queue}", reply)
            return
        there: dict[str, ScheduleEntry] = {}
        for raw in reply[1::2]:
            try:
                entry = decode_entry(raw)
            except ValueError:
                continue
            if entry.owner == self._name:
                there[entry.id] = entry
        new = [entry for i, entry in wanted.items() if i not in there]
        if new:
            self._connections.registry().call(("SADD", QUEUES, queue))
        for entry in new:
            now_ms = self._clock.now_ms()
            due_ms = first_due(parse_spec(entry.spec, entry.tz), entry, now_ms)
            self._send(queue, put_schedule(queue, entry, due_ms, now_ms))
            log.info("provider adds name=%r schedule=%r", self._name, entry.id)
        for schedule_id, entry in there.items():
            if schedule_id not in wanted:
                self._send(queue, remove_schedule(queue, schedule_id, entry.revision))
                log.info("provider removes name=%r schedule=%r", self._name, schedule_id)


class Providers:
    """The providers of one worker."""

    def __init__(self, syncs: Iterable[PeriodicSync]) -> None:
        self._syncs = list(syncs)

    def close(self) -> None:
        """Call the providers no more."""
        for each in self._syncs:
            each.close()
