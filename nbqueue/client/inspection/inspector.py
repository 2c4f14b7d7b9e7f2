"""`Inspector`: looks into a store, and moves tasks by hand."""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from nbqueue.broker.commands import inspect
from nbqueue.broker.commands.inspect import Moved
from nbqueue.broker.queue_removal import QueueRemoval
from nbqueue.broker.reads.asynq_records import AsynqRecords
from nbqueue.broker.reads.key_faults import Fault
from nbqueue.broker.reads.models import (
    DailyStats,
    QueueInfo,
    SchedulerEntry,
    SchedulerEvent,
    ServerInfo,
    TaskInfo,
)
from nbqueue.broker.reads.store_check import store_faults
from nbqueue.broker.reads.store_reader import LISTED, StoreReader
from nbqueue.calls.payloads import is_call
from nbqueue.client.inspection import cards  # noqa: F401 (gives what is told here its HTML)
from nbqueue.client.inspection.bulk_actions import BulkActions
from nbqueue.client.inspection.limits import forget_said
from nbqueue.client.inspection.task_filter import (
    BulkResult,
    Filter,
    check_number,
    check_where,
    listed,
    make_filter,
    moment_ms,
)
from nbqueue.client.session import Session
from nbqueue.durations import Duration, parse_duration
from nbqueue.errors import TaskNotFound, UsageError
from nbqueue.moved_modules import public
from nbqueue.tasks.aggregation_group import encoded_payload
from nbqueue.transport.script_call import Command
from nbqueue.transport.topology import ANYWHERE
from nbqueue.wire.keys import CANCEL_CHANNEL, check_queue_name

if TYPE_CHECKING:
    from nbqueue.client.schedules.schedule import Schedules


@public
class Inspector:
    """Looks into the store of a client, and moves tasks by hand: one, many, or all that fit.

    Get it as ``q.inspector``.

    >>> q.inspector.queue("default").pending
    >>> q.inspector.run(queue="default", state="archived", error="Connection refused")

    **Which tasks.** `run`, `archive`, `delete`, `cancel` and `reschedule` take an id, a future, a
    list of these, a group, or a frame or series of pandas with ids in ``task_id`` or in its index;
    ``queue=`` says where they lie, else they are looked for. Or they take a filter: ``queue=`` and
    ``state=``, and as many as you like of ``type=`` (in which ``*`` stands for any
    characters), ``error=`` (a part of the text of the last error), ``since=`` and ``until=``
    (durations back from now, or datetimes), and ``group=``, which ``state="aggregating"`` needs.
    Times are those of the state: when a task became pending or was archived, completed or put into
    its group, or when it is due.

    **What comes of it.** One task that is named by itself and cannot be moved raises
    `TaskNotFound` or `TaskStateError`. Of many, a `BulkResult` lists those that were refused, and
    the others are done. Everything raises `StoreUnreachable`, and `UsageError` for what cannot be
    right.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _reader(self) -> StoreReader:
        self._session.check_open()
        return StoreReader(self._session.broker)

    @property
    def _actions(self) -> BulkActions:
        return BulkActions(self._session, self._reader)

    # --- Queues ----------------------------------------------------------------------------------

    def queues(self) -> list[str]:
        """The names of all queues that a task was ever enqueued to, sorted."""
        self._session.check_open()
        return self._session.broker.queues()

    def queue(self, queue: str, *, memory: bool = False) -> QueueInfo:
        """A queue as a whole. With ``memory``, also about how much it takes, which costs more.

        Raises `QueueNotFound`.
        """
        return self._reader.queue(queue, memory=memory)

    def queue_infos(self, queues: Sequence[str] | None = None) -> list[QueueInfo]:
        """Many queues as a whole, by default all: a few round trips for thousands of them.

        One that does not exist counts as empty.
        """
        reader = self._reader
        return reader.queues(self.queues() if queues is None else reader.checked_names(queues))

    def history(self, queue: str, days: int = 10) -> list[DailyStats]:
        """What a queue processed on each of the last days (UTC), today first; 90 days are kept.

        Raises `QueueNotFound`.
        """
        check_number(days, "days", 1, 3650)
        return self._reader.history(queue, days)

    def histories(self, queues: Sequence[str], days: int = 10) -> dict[str, list[DailyStats]]:
        """What each of many queues processed on the last days, as `history` does for one."""
        check_number(days, "days", 1, 3650)
        reader = self._reader
        return reader.histories(reader.checked_names(queues), days)

    def faults(self) -> Iterator[Fault]:
        """What in the store cannot be read, or is not served because of its name: the keys of all
        queues, and each task, schedule, limit and record in them.

        It goes through the whole store, slice by slice. ``nbqueue store check`` prints it.
        """
        self._session.check_open()
        return store_faults(self._session.broker)

    def groups(self, queue: str) -> dict[str, int]:
        """The aggregation groups of a queue, and how many tasks wait in each."""
        return self._reader.groups(queue)

    def pause(self, queue: str) -> bool:
        """Have workers fetch no more tasks of a queue; what runs goes on. Returns whether that is
        new. It may be a queue that is yet to come."""
        self._session.check_open()
        now_ms = self._session.clock.now_ms()
        return self._session.broker.run(inspect.pause(queue, now_ms))

    def unpause(self, queue: str) -> bool:
        """Let a paused queue go on, at once. Returns whether it was paused."""
        self._session.check_open()
        return self._session.broker.run(inspect.unpause(queue))

    def remove_queue(self, queue: str, force: bool = False) -> None:
        """Remove a queue and everything that was kept for it: counters, attempts, settings, code.

        Raises `QueueNotFound`; `QueueNotEmpty` if it holds tasks of any state and ``force`` is not
        set, or if a worker runs some. With ``force`` all its tasks are deleted, and who waits for
        them is told. What others enqueue meanwhile is deleted too, or makes the queue a new one.
        """
        self._session.check_open()
        QueueRemoval(self._session.broker, queue).run(force)
        forget_said(self._session, queue)

    def set_archive_limits(
        self, queue: str, *, most: int | None = None, days: float | None = None
    ) -> None:
        """Say how many archived tasks a queue keeps, and for how many days.

        None stands for what holds without a word: 10,000 tasks, 90 days. What is too much is
        deleted when nbqueue archives the next task, the oldest first. It is counted
        (`QueueInfo.trimmed`), and workers log it. Programs in Go have limits of their own.
        """
        self._session.check_open()
        if most is not None:
            check_number(most, "most", 1, 10**9)
        if days is not None and not (isinstance(days, int | float) and 0 < days <= 36_500):
            raise UsageError(f"days={days!r} must be a number greater than 0")
        self._session.broker.call(*inspect.archive_limits(queue, most, days), on=queue)

    def cluster_key_slot(self, queue: str) -> int:
        """The slot of a Redis Cluster in which everything of a queue lies."""
        return binascii.crc_hqx(check_queue_name(queue).encode(), 0) % 16384

    # --- Workers and schedules -------------------------------------------------------------------

    def servers(self) -> list[ServerInfo]:
        """The workers that reported lately, of nbqueue or in Go, with what they run."""
        self._session.check_open()
        return AsynqRecords(self._session.broker).servers()

    def schedules(self, queue: str | None = None) -> Schedules:
        """The schedules of all queues, or of one; a list of handles, with ``rows()``.

        >>> q.inspector.schedules()["report"].pause()
        """
        from nbqueue.client.schedules.schedule import list_schedules

        return list_schedules(self._session, queue)

    def scheduler_entries(self) -> list[SchedulerEntry]:
        """The schedules that somebody keeps, as last reported."""
        self._session.check_open()
        return AsynqRecords(self._session.broker).scheduler_entries()

    def scheduler_events(
        self, entry_id: str, *, page: int = 1, size: int = 30
    ) -> list[SchedulerEvent]:
        """When a schedule enqueued which task, newest first, so many a page."""
        self._session.check_open()
        check_number(page, "page", 1, 10**9)
        check_number(size, "size", 1, 1000)
        return AsynqRecords(self._session.broker).scheduler_events(entry_id, page, size)

    # --- Looking at tasks ------------------------------------------------------------------------

    def task(self, task_id: str, queue: str | None = None) -> TaskInfo:
        """A task as it lies in the store. Raises `TaskNotFound`."""
        reader = self._reader
        homes = [queue] if queue is not None else reader.find([task_id])[task_id]
        for name in homes:
            [found] = reader.tasks(name, [task_id])
            if found is not None:
                return found
        where = f"queue {queue!r}" if queue is not None else "the store"
        raise TaskNotFound(f"{where} has no task {task_id!r}", task_id)

    def tasks(
        self,
        queue: str,
        state: str,
        *,
        type: str | None = None,
        error: str | None = None,
        since: Duration | datetime | None = None,
        until: Duration | datetime | None = None,
        ids: Sequence[str] | None = None,
        group: str | None = None,
        limit: int | None = None,
    ) -> Iterator[TaskInfo]:
        """The tasks of a queue that are in a state, and that fit a filter; see the class.

        Pending and active ones from the oldest on, others from the one that is due, was archived
        or expires first. They are read as they are asked for, in slices: what moves meanwhile may
        be missed. ``ids``: only these. Raises `QueueNotFound`.
        """
        chosen = self._filter(
            {"queue": queue, "state": state, "type": type, "error": error, "since": since,
             "until": until, "group": group}
        )  # fmt: skip
        if limit is not None:
            check_number(limit, "limit", 0, 10**9)
        reader = self._reader
        if ids is None:
            return listed(reader, chosen, limit)
        if isinstance(ids, str):
            raise UsageError(f"ids={ids!r} must be a list of ids")
        wanted = frozenset(ids)
        return islice((each for each in listed(reader, chosen, None) if each.id in wanted), limit)

    def page(
        self, queue: str, state: str, first: int, count: int, *, newest_first: bool = False
    ) -> list[TaskInfo]:
        """``count`` tasks of a queue in a state, from the ``first`` (0 is the next to run, or the
        earliest) on; or, with ``newest_first``, counted from the other end. One read, however many
        tasks there are. Not for aggregating ones, which lie in groups. Raises `QueueNotFound`.
        """
        check_number(first, "first", 0, 10**12)
        check_number(count, "count", 1, 1000)
        reader = self._reader
        reader.check_queue(queue)
        if state not in LISTED:
            raise UsageError(f"state={state!r} must be one of {', '.join(LISTED)}")
        return reader.page(queue, state, first, count, newest_first)

    # --- Moving tasks ----------------------------------------------------------------------------

    def run(self, selection: Any = None, *, reset: bool = False, **where: Any) -> BulkResult:
        """Have tasks run as soon as their turn comes, after all that is pending.

        For scheduled, retry, archived, completed and aggregating ones; the latter leave their
        group and run alone. A task that used up its retries is archived again when it fails again:
        ``reset=True`` forgets its failures, so that it has all its retries.

        >>> q.inspector.run(queue="default", state="archived", type="fit", reset=True)
        """
        chosen, queue = self._choose(selection, where)
        return self._actions.run(chosen, queue, reset=reset)

    def retry(self, selection: Any = None, **where: Any) -> BulkResult:
        """Run tasks again, with all of their retries: `run` with ``reset=True``."""
        chosen, queue = self._choose(selection, where)
        return self._actions.run(chosen, queue, reset=True, action="retry")

    def archive(
        self, selection: Any = None, *, keep_lock: bool = False, **where: Any
    ) -> BulkResult:
        """Archive tasks that do not run: they stay where they are until somebody runs them.

        Their unique locks are given up, unless ``keep_lock`` is set. An archive that is full drops
        its oldest tasks; the result's ``trimmed`` says how many. To say that nobody wants a task
        any more, `cancel` it.
        """
        chosen, queue = self._choose(selection, where)

        def move(
            name: str, ids: Sequence[str], wanted: str, distances: Sequence[int] | None
        ) -> Command[Moved]:
            now_ms = self._session.clock.now_ms()
            return inspect.archive_by_hand(
                name, ids, now_ms, wanted=wanted, keep_lock=keep_lock, distances=distances
            )

        return self._actions.move("archive", chosen, queue, move)

    def delete(self, selection: Any = None, *, keep_lock: bool = False, **where: Any) -> BulkResult:
        """Delete tasks of any state but active, with their results and errors.

        Their unique locks are given up, unless ``keep_lock`` is set.
        """
        chosen, queue = self._choose(selection, where)

        def move(
            name: str, ids: Sequence[str], wanted: str, distances: Sequence[int] | None
        ) -> Command[Moved]:
            now_ms = self._session.clock.now_ms()
            return inspect.delete(
                name, ids, now_ms, wanted=wanted, keep_lock=keep_lock, distances=distances
            )

        return self._actions.move("delete", chosen, queue, move)

    def reschedule(
        self,
        selection: Any = None,
        *,
        at: datetime | None = None,
        delay: Duration | None = None,
        **where: Any,
    ) -> BulkResult:
        """Have tasks run at another time: ``at`` (a timezone-aware datetime), or after ``delay``.

        Scheduled and retry ones get the new time where they are; pending, archived and completed
        ones become scheduled.

        >>> q.inspector.reschedule(future, delay="1h")
        """
        if (at is None) == (delay is None):
            raise UsageError("say when with one of at= and delay=")
        chosen, queue = self._choose(selection, where)
        if at is not None:
            due_ms = moment_ms(at, "at")
        else:
            due_ms = self._session.clock.now_ms() + round(parse_duration(delay, "delay") * 1000)  # type: ignore[arg-type]
        if not 0 <= due_ms < 2**53:
            raise UsageError(f"at={at!r} is too far away")

        def move(
            name: str, ids: Sequence[str], wanted: str, distances: Sequence[int] | None
        ) -> Command[Moved]:
            now_ms = self._session.clock.now_ms()
            return inspect.reschedule(name, ids, due_ms, now_ms, wanted=wanted, distances=distances)

        return self._actions.move("reschedule", chosen, queue, move)

    def cancel(self, selection: Any = None, **where: Any) -> BulkResult:
        """Cancel tasks, whatever their state. Who waits for one gets a `TaskCancelled`.

        One that does not run is archived at once, with that as its error. The workers of running
        ones are asked to end them, and not waited for: these are in the result's ``asked``.
        """
        chosen, queue = self._choose(selection, where)
        return self._actions.cancel(chosen, queue)

    def cancel_running(self, task_id: str) -> None:
        """Ask whoever runs a task to end it, as Asynq does: in any queue, and without a reply."""
        self._session.check_open()
        if not isinstance(task_id, str) or not task_id:
            raise UsageError(f"{task_id!r} is no id of a task")
        self._session.broker.call(("PUBLISH", CANCEL_CHANNEL, task_id), on=ANYWHERE)

    def update_payload(self, task_id: str, payload: Any, queue: str | None = None) -> None:
        """Give a message another payload, as `Client.enqueue` takes it, while nobody has begun it.

        Raises `TaskNotFound`; `TaskStateError` unless it is pending or scheduled; `UsageError` for
        a call, which is signed. A unique message keeps the lock of its first payload.
        """
        name = queue if queue is not None else self.task(task_id).queue
        self._actions.set_payload(name, task_id, encoded_payload(payload) or b"", is_call)

    # --- Choosing --------------------------------------------------------------------------------

    def _filter(self, where: dict[str, Any]) -> Filter:
        queue, state = where.pop("queue", None), where.pop("state", None)
        chosen = make_filter(queue, state, self._session.clock.now_ms(), **where)
        self._reader.check_queue(queue)
        return chosen

    def _choose(self, selection: Any, where: dict[str, Any]) -> tuple[Any, str | None]:
        self._session.check_open()
        check_where(selection, where)
        if selection is None:
            return self._filter(dict(where)), None
        queue = where.get("queue")
        if queue is not None:
            self._reader.checked_names([queue])
        return selection, queue
