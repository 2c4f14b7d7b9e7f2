"""Fire schedules of served queues, and of unserved ones, when they are due.

All workers fire the schedules of a queue; the script lets the first of them succeed. Schedules are
read when the store is connected, when a change is announced and, where there are any, every few
seconds. In between a timer waits for the next due time. A schedule without a valid signature is
never fired.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from nbqueue.broker.commands.schedules import (
    STATE_FIELDS,
    Due,
    Fired,
    ScheduleState,
    Skip,
    fire_schedule,
    read_state,
)
from nbqueue.broker.due_times import Step, plan
from nbqueue.calls import payloads
from nbqueue.cron import Spec, parse_spec
from nbqueue.errors import SignatureError
from nbqueue.runtime.reactor import Timer
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.decoding import pairs, text, time_ms
from nbqueue.wire.keys import SCHEDULE_TYPE, queue_keys
from nbqueue.wire.schedule_record import ScheduleEntry, decode_entry, task_id_of
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.scheduling.scheduler_records import ScheduleRecords
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.unreadable_data import set_aside

log = logging.getLogger("nbqueue.worker")

INTERVAL = 5.0
_NOTHING_DUE = ScheduleState("", None, None, 0, False)


class LoadedSchedule:
    """A schedule as read, with its due time."""

    def __init__(self, raw: bytes, entry: ScheduleEntry, spec: Spec) -> None:
        self.raw = raw
        self.entry = entry
        self.spec = spec
        self.message = entry.task()
        self.refusal = ""
        self.fingerprint: bytes | None = None
        self.due_ms: int | None = None
        self.state = _NOTHING_DUE
        self.under_way = 0
        """The number of unanswered firings.

        Nothing else is fired meanwhile.
        """
        self.is_stale = False


class Scheduler(Service):
    """Reads and fires the schedules of its queues.

    Calls ``look(queue)`` after each task.
    """

    def __init__(self, context: ServiceContext, look: Callable[[str], None]) -> None:
        self._keys = context.keys
        self._served = context.queues.names
        self._others: set[str] = set()
        self._look = look
        self._known: dict[str, dict[str, LoadedSchedule]] = {}
        self._due: Timer | None = None
        self._closed = False
        self._records = ScheduleRecords(context)
        super().__init__(context, INTERVAL)
        context.connections.on_down.append(self._forget)

    @property
    def _queues(self) -> list[str]:
        return [*self._served, *self._others.difference(self._served)]

    def tend(self, queue: str) -> None:
        """Fire the schedules of ``queue``, which has some, until it has none."""
        if queue in self._served:
            if not self._known.get(queue):
                self.refresh(queue)
        elif queue not in self._others:
            self._others.add(queue)
            self.refresh(queue)

    def close(self) -> None:
        """Fire no more, as this worker ends."""
        self.stop()
        self._cancel_timer()
        self._closed = True
        self._records.close(self._queues)

    def _forget(self) -> None:
        """Forget firings without an answer, as the store is lost."""
        self._known = {}
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def run_once(self) -> None:
        if self._closed:
            self.stop()
            return
        # The served queues may have changed.
        self._known = {queue: self._known.get(queue, {}) for queue in self._queues}
        self._records.keep_only(self._queues)
        for queue in self._queues:
            # For a queue without schedules `tend` is called once it has some.
            if self._known[queue] or queue in self._others:
                self.refresh(queue)

    # --- Reading ---

    def refresh(self, queue: str) -> None:
        """Read the schedules of a queue again."""
        if not self._closed:
            words = ("HGETALL", queue_keys(queue).schedules)
            self._connections.upkeep(queue).call(words, partial(self._on_entries, queue))

    def _on_entries(self, queue: str, reply: Any) -> None:
        if isinstance(reply, ReplyError):
            refused(f"to give schedules queue={queue}", reply)
            return
        if not reply:
            self._others.discard(queue)
        if queue not in self._queues:
            return
        old, known = self._known.get(queue, {}), {}
        for raw_id, raw in pairs(reply):
            schedule_id = text(raw_id)
            before = old.get(schedule_id)
            if before is not None and before.raw == raw:
                known[schedule_id] = before
            elif (found := self._understood(queue, schedule_id, raw)) is not None:
                known[schedule_id] = found
        self._known[queue] = known
        connection = self._connections.upkeep(queue)
        keys = queue_keys(queue)
        for schedule_id, each in known.items():
            connection.call(
                ("HMGET", keys.schedule_state(schedule_id), *STATE_FIELDS),
                partial(self._on_state, each),
            )
        # Replies come in order, so all states are known when this one comes.
        connection.call(
            ("ZRANGE", keys.schedule_due, 0, -1, "WITHSCORES"), partial(self._on_due, queue, known)
        )

    def _understood(self, queue: str, schedule_id: str, raw: bytes) -> LoadedSchedule | None:
        try:
            entry = decode_entry(raw)
            found = LoadedSchedule(raw, entry, parse_spec(entry.spec, entry.tz))
            if entry.id != schedule_id or found.message.queue != queue:
                raise ValueError("it was made for another place")
            lock = found.message.unique_key
            if entry.unique_ms and not lock.startswith(queue_keys(queue).lock("", "")[:-1]):
                raise ValueError(f"{lock!r} is no unique lock of its queue")
        except Exception as error:  # of the decoders, or of the parser of its spec
            set_aside("schedule", f"{queue} {schedule_id}", error)
            return None
        if payloads.is_call(found.message.payload):
            kind = SCHEDULE_TYPE + found.message.type
            try:
                call = self._keys.verify_call(found.message.payload, entry.id, queue, kind)
                found.fingerprint = call.fingerprint
            except SignatureError as error:
                found.refusal = str(error)
                log.error("schedule refused queue=%s id=%r error=%s", queue, schedule_id, error)
        return found

    @staticmethod
    def _on_state(known: LoadedSchedule, reply: Any) -> None:
        if not isinstance(reply, ReplyError):
            known.state = read_state(reply)

    def _on_due(self, queue: str, known: dict[str, LoadedSchedule], reply: Any) -> None:
        if isinstance(reply, ReplyError):
            refused(f"to give schedules queue={queue}", reply)
            return
        due = dict(pairs(reply))
        for schedule_id, each in known.items():
            score = due.get(schedule_id.encode())
            each.due_ms = time_ms(score)
            if score is not None and each.due_ms is None:
                set_aside("time of a schedule", f"{queue} {schedule_id}", f"it is {text(score)}")
        rows = [(each.entry, each.due_ms, each.state.prev_ms) for each in known.values()]
        self._records.write(queue, rows)
        self._fire()

    # --- Firing ---

    def _fire(self) -> None:
        """Fire due schedules, and set a timer for the next."""
        self._cancel_timer()
        if self._closed or not self._connections.is_up:
            return
        now_ms, next_ms = self._clock.now_ms(), None
        for queue, entries in self._known.items():
            for each in entries.values() if queue in self._queues else ():
                if each.due_ms is None or each.under_way:
                    continue
                at = each.entry.fire_ms(each.due_ms)
                if at <= now_ms:
                    self._fire_one(queue, each, each.due_ms, now_ms)
                elif next_ms is None or at < next_ms:
                    next_ms = at
        if next_ms is not None:
            # One millisecond later: the clock counts whole ones, and being early costs a round.
            seconds = (next_ms + 1 - self._clock.now_ms()) / 1000
            self._due = self._reactor.after(max(0.0, seconds), self._fire)

    def _fire_one(self, queue: str, known: LoadedSchedule, due_ms: int, now_ms: int) -> None:
        try:
            steps = plan(known.spec, known.entry, due_ms, now_ms)
        except Exception as error:  # any program may have written its times
            known.due_ms = None
            set_aside("schedule", f"{queue} {known.entry.id}", error)
            return
        for step in steps:
            known.under_way += 1
            self._send_step(queue, known, step, now_ms)

    def _send_step(self, queue: str, known: LoadedSchedule, step: Step, now_ms: int) -> None:
        entry, message = known.entry, known.message
        task_id = task_id_of(queue, entry, step.due_ms)
        task = NewTask(task_id, b"")
        reason, detail = step.reason, step.detail
        if not reason and known.refusal:
            reason, detail = "error", known.refusal
        if not reason:
            task = NewTask(task_id, self._message(queue, known, task_id))
        fire = fire_schedule(
            queue,
            entry,
            task,
            now_ms,
            due=Due(step.due_ms, step.next_ms),
            lock=message.unique_key if entry.unique_ms else "",
            fingerprint=known.fingerprint,
            skip=Skip(reason, detail),
        )
        self._send(queue, fire, partial(self._on_fired, queue, known, step, task_id))

    def _message(self, queue: str, known: LoadedSchedule, task_id: str) -> bytes:
        message = known.entry.task()
        message.id = task_id
        if known.fingerprint is not None:
            message.payload = self._keys.sign_call(message.payload, task_id, queue, message.type)
        return message.SerializeToString(deterministic=True)

    def _on_fired(
        self, queue: str, known: LoadedSchedule, step: Step, task_id: str, fired: Fired | None
    ) -> None:
        known.under_way -= 1
        if fired is None:
            # The store refused; the next reading tries again.
            known.due_ms = None
            return
        known.due_ms = fired.due_ms
        entry = known.entry
        if fired.word == "ENQUEUED":
            log.info("schedule fired queue=%s id=%r task=%s", queue, entry.id, task_id)
            known.state = known.state._replace(prev_ms=step.due_ms)
            self._look(queue)
            self._records.fired(queue, entry, task_id)
        elif fired.word in ("STALE", "GONE"):
            known.is_stale = True
        else:
            log.info("schedule passed over queue=%s id=%r why=%s", queue, entry.id, fired.word)
        if known.under_way:
            return
        if known.is_stale:
            # Another worker was first, or the schedule was changed.
            known.is_stale, known.due_ms = False, None
            self.refresh(queue)
        self._cancel_timer()
        self._due = self._reactor.after(0.0, self._fire)
