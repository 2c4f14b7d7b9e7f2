"""`Inspector`: reads queues, tasks and workers, and moves tasks by hand."""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from nbqueue.broker.commands import inspect
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
from nbqueue.client.inspection.bulk_actions import BulkActions
from nbqueue.client.inspection.cards import register_cards
from nbqueue.client.inspection.limits import LimitInfo, list_limits
from nbqueue.client.inspection.task_filter import (
    BulkResult,
    check_number,
    listed,
)
from nbqueue.client.inspection.unknown_names import warn_of_new_queue
from nbqueue.client.inspection.where_keywords import WHERE_DEFAULTS, TaskWhere
from nbqueue.client.schedules.schedule import Schedules, list_schedules
from nbqueue.client.session import Session
from nbqueue.durations import Duration
from nbqueue.errors import TaskNotFound, UsageError
from nbqueue.keywords import lists
from nbqueue.moved_modules import pickled_as
from nbqueue.tasks.aggregation_group import encoded_payload
from nbqueue.transport.topology import ANYWHERE
from nbqueue.wire import states
from nbqueue.wire.keys import CANCEL_CHANNEL, check_queue_name

if TYPE_CHECKING:
    from typing_extensions import Unpack


@pickled_as("nbqueue.client.inspector")
class Inspector:
    """Reads a client's store, and moves tasks by hand: one, some, or a filter.

    Get it as ``q.inspector``.

    >>> q.inspector.queue("default").pending
    >>> q.inspector.run(queue="default", state="archived", error="Connection refused")

    **Which tasks.** `run`, `archive`, `delete`, `cancel` and `reschedule` take an id, a future, a
    list of these, a group, or a frame or series of pandas with ids in ``task_id`` or in its index;
    ``queue=`` is their queue, which is otherwise searched for. Or they take a filter: ``queue=``
    and ``state=``, and any of ``type=`` (in which ``*`` stands for any characters), ``error=`` (a
    part of the text of the last error), ``since=`` and ``until=`` (durations back from now, or
    datetimes), and ``group=``, which ``state="aggregating"`` needs. Times are those of the state:
    when a task became pending or was archived, completed or put into its group, or when it is due.

    **Results.** A single task that cannot be moved raises `TaskNotFound` or `TaskStateError`. For
    many tasks a `BulkResult` lists those that were refused; the others are changed. All methods
    raise `StoreUnreachable`, and `UsageError` for arguments that cannot be right.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._actions = BulkActions(session)
        register_cards()

    @property
    def _reader(self) -> StoreReader:
        self._session.check_open()
        return StoreReader(self._session.broker)

    # --- Queues ----------------------------------------------------------------------------------

    def queues(self) -> list[str]:
        """Return the names of all queues that a task was ever enqueued to, sorted."""
        self._session.check_open()
        return self._session.broker.queues()

    def queue(self, queue: str, *, memory: bool = False) -> QueueInfo:
        """Read the counters of a queue; with ``memory`` also estimate its size, which is slower.

        Raises `QueueNotFound`.
        """
        return self._reader.queue(queue, memory=memory)

    def queue_infos(self, queues: Sequence[str] | None = None) -> list[QueueInfo]:
        """Read the counters of many queues, by default all, in a few round trips.

        A queue that does not exist counts as empty.
        """
        reader = self._reader
        return reader.queues(self.queues() if queues is None else reader.checked_names(queues))

    def history(self, queue: str, days: int = 10) -> list[DailyStats]:
        """Return what a queue processed on each of the last days (UTC), today first.

        90 days are kept. Raises `QueueNotFound`.
        """
        check_number(days, "days", 1, 3650)
        return self._reader.history(queue, days)

    def histories(self, queues: Sequence[str], days: int = 10) -> dict[str, list[DailyStats]]:
        """Return what each of many queues processed on the last days; see `history`."""
        check_number(days, "days", 1, 3650)
        reader = self._reader
        return reader.histories(reader.checked_names(queues), days)

    def faults(self) -> Iterator[Fault]:
        """Find what cannot be read in the store, or is not served because of its name.

        It goes through the whole store in slices: the keys of all queues, and each task, schedule,
        limit and record. ``nbqueue store check`` prints it.
        """
        self._session.check_open()
        return store_faults(self._session.broker)

    def groups(self, queue: str) -> dict[str, int]:
        """Return the aggregation groups of a queue, with the number of tasks in each."""
        return self._reader.groups(queue)

    def pause(self, queue: str) -> bool:
        """Stop workers from fetching tasks of a queue; running tasks go on.

        Returns False if it was paused already. The queue need not exist yet.
        """
        self._session.check_open()
        now_ms = self._session.clock.now_ms()
        was_new = self._session.broker.run(inspect.pause(queue, now_ms))
        warn_of_new_queue(self._session, queue)
        return was_new

    def unpause(self, queue: str) -> bool:
        """Let workers fetch from a paused queue again; return whether it was paused."""
        self._session.check_open()
        was_paused = self._session.broker.run(inspect.unpause(queue))
        warn_of_new_queue(self._session, queue)
        return was_paused

    def remove_queue(self, queue: str, force: bool = False) -> None:
        """Remove a queue with its counters, attempts, settings and code.

        Raises `QueueNotFound`; `QueueNotEmpty` if it has tasks of any state and ``force`` is not
        set, or if a worker runs some. With ``force`` all its tasks are deleted, which ends waits
        for them. Tasks that are enqueued meanwhile are deleted too, or create the queue again.
        """
        self._session.check_open()
        QueueRemoval(self._session.broker, queue).run(force)

    def set_archive_limits(
        self, queue: str, *, most: int | None = None, days: float | None = None
    ) -> None:
        """Set how many archived tasks a queue keeps, and for how many days.

        None is the default: 10,000 tasks, 90 days. Surplus tasks are deleted, the oldest first,
        when nbqueue archives the next one; they are counted (`QueueInfo.trimmed`), and workers log
        it. Programs in Go have limits of their own.
        """
        self._session.check_open()
        if most is not None:
            check_number(most, "most", 1, 10**9)
        if days is not None and not (isinstance(days, int | float) and 0 < days <= 36_500):
            raise UsageError(f"days={days!r} must be a number greater than 0")
        self._session.broker.call(*inspect.archive_limits(queue, most, days), on=queue)

    def limits(self, queue: str = "default") -> list[LimitInfo]:
        """Return the limits of a queue: their numbers, how many tasks run, how many wait.

        >>> q.inspector.limits("default")
        [LimitInfo(name='api.example', concurrency=4, rate='10/s', held=4, waiting=96)]
        """
        return list_limits(self._session, queue)

    def cluster_key_slot(self, queue: str) -> int:
        """Return the slot of a Redis Cluster that the keys of a queue belong to."""
        return binascii.crc_hqx(check_queue_name(queue).encode(), 0) % 16384

    # --- Workers and schedules -------------------------------------------------------------------

    def servers(self) -> list[ServerInfo]:
        """Return the workers that reported lately, of nbqueue or in Go, with what they run."""
        self._session.check_open()
        return AsynqRecords(self._session.broker).servers()

    def schedules(self, queue: str | None = None) -> Schedules:
        """Return the schedules of all queues, or of one: a list of handles, with ``rows()``.

        >>> q.inspector.schedules()["report"].pause()
        """
        return list_schedules(self._session, queue)

    def scheduler_entries(self) -> list[SchedulerEntry]:
        """Return the entries that running schedulers, of nbqueue or in Go, last reported."""
        self._session.check_open()
        return AsynqRecords(self._session.broker).scheduler_entries()

    def scheduler_events(
        self, entry_id: str, *, page: int = 1, size: int = 30
    ) -> list[SchedulerEvent]:
        """Return which tasks a schedule enqueued, and when: a page, newest first."""
        self._session.check_open()
        check_number(page, "page", 1, 10**9)
        check_number(size, "size", 1, 1000)
        return AsynqRecords(self._session.broker).scheduler_events(entry_id, page, size)

    # --- Looking at tasks ------------------------------------------------------------------------

    def task(self, task_id: str, queue: str | None = None) -> TaskInfo:
        """Read a task from the store. Raises `TaskNotFound`."""
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
        """Iterate over a queue's tasks in a state that match a filter; see the class.

        Pending and active tasks come oldest first, others by when they are due, were archived or
        expire. They are read in slices during the iteration, so tasks that move meanwhile may be
        missed. ``ids``: only these. Raises `QueueNotFound`.
        """
        chosen = self._actions.filter(
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
        """Read ``count`` tasks of a queue in a state, from position ``first`` on.

        Position 0 is the next to run, or the earliest; with ``newest_first`` it is the other end.
        This is one read, however many tasks there are. Aggregating tasks, which are in groups,
        cannot be read so. Raises `QueueNotFound`.
        """
        check_number(first, "first", 0, 10**12)
        check_number(count, "count", 1, 1000)
        reader = self._reader
        reader.check_queue(queue)
        if state not in LISTED:
            raise UsageError(f"state={states.unknown_state(state, LISTED)}")
        return reader.page(queue, state, first, count, newest_first)

    # --- Moving tasks ----------------------------------------------------------------------------

    @lists(WHERE_DEFAULTS)
    def run(
        self, selection: Any = None, *, reset: bool = False, **where: Unpack[TaskWhere]
    ) -> BulkResult:
        """Make tasks run as soon as it is their turn, after all that is pending.

        For scheduled, retry, archived, completed and aggregating tasks; the latter leave their
        group and run alone. A task that has used up its retries is archived again when it fails
        again: ``reset=True`` forgets its failures, so that it has all its retries.

        >>> q.inspector.run(queue="default", state="archived", type="fit", reset=True)
        """
        return self._actions.run(selection, reset=reset, **where)

    @lists(WHERE_DEFAULTS)
    def retry(self, selection: Any = None, **where: Unpack[TaskWhere]) -> BulkResult:
        """Run tasks again, with all of their retries: `run` with ``reset=True``.

        Completed tasks run again as well; `TaskGroup.retry` runs only what failed.
        """
        return self._actions.retry(selection, **where)

    @lists(WHERE_DEFAULTS)
    def archive(
        self, selection: Any = None, *, keep_lock: bool = False, **where: Unpack[TaskWhere]
    ) -> BulkResult:
        """Archive tasks that do not run.

        They stay in the archive until they are run by hand. Their unique locks are released, unless
        ``keep_lock`` is set. A full archive drops its oldest tasks; ``trimmed`` of the result
        counts them. To end the waits for a task as well, `cancel` it.
        """
        return self._actions.archive(selection, keep_lock=keep_lock, **where)

    @lists(WHERE_DEFAULTS)
    def delete(
        self, selection: Any = None, *, keep_lock: bool = False, **where: Unpack[TaskWhere]
    ) -> BulkResult:
        """Delete tasks of any state but active, with their results and errors.

        Their unique locks are released, unless ``keep_lock`` is set.
        """
        return self._actions.delete(selection, keep_lock=keep_lock, **where)

    @lists(WHERE_DEFAULTS)
    def reschedule(
        self,
        selection: Any = None,
        *,
        at: datetime | None = None,
        delay: Duration | None = None,
        **where: Unpack[TaskWhere],
    ) -> BulkResult:
        """Run tasks at another time: ``at`` (a timezone-aware datetime), or after ``delay``.

        Scheduled and retry tasks stay in their state; pending, archived and completed ones become
        scheduled.

        >>> q.inspector.reschedule(future, delay="1h")
        """
        return self._actions.reschedule(selection, at=at, delay=delay, **where)

    @lists(WHERE_DEFAULTS)
    def cancel(self, selection: Any = None, **where: Unpack[TaskWhere]) -> BulkResult:
        """Cancel tasks, whatever their state. Waits for them raise `TaskCancelled`.

        A task that does not run is archived at once with that error. The workers of running tasks
        are asked to end them, without waiting: these are in ``asked`` of the result.
        """
        return self._actions.cancel(selection, **where)

    def cancel_running(self, task_id: str) -> None:
        """Ask a task's worker to end it, as Asynq does.

        It works in any queue, and without a reply.
        """
        self._session.check_open()
        if not isinstance(task_id, str) or not task_id:
            raise UsageError(f"{task_id!r} is not the id of a task")
        self._session.broker.call(("PUBLISH", CANCEL_CHANNEL, task_id), on=ANYWHERE)

    def update_payload(self, task_id: str, payload: Any, queue: str | None = None) -> None:
        """Replace the payload of a message that has not begun; see `Client.enqueue`.

        Raises `TaskNotFound`; `TaskStateError` unless it is pending or scheduled; `UsageError` for
        a call, which is signed. A unique message keeps the lock of its first payload.
        """
        name = queue if queue is not None else self.task(task_id).queue
        self._actions.set_payload(name, task_id, encoded_payload(payload) or b"")
