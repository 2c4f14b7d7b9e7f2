"""`Schedule`: the handle of a schedule; listing schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nbqueue.broker.commands.schedules import (
    BY_HAND,
    HISTORY_CAP,
    fire_schedule,
    pause_schedule,
    read_history,
    remove_schedule,
    stored_schedules,
)
from nbqueue.calls import payloads
from nbqueue.checks import is_whole
from nbqueue.client.futures.future import TaskFuture, attach
from nbqueue.client.futures.task_facts import TaskFacts
from nbqueue.client.inspection.unknown_names import warn_of_queues
from nbqueue.client.obstacles.obstacle import in_short
from nbqueue.client.results.json_results import has_json_result
from nbqueue.client.schedules.entries import (
    SETTINGS,
    StoredSchedule,
    find,
    put,
    updated,
    with_settings,
)
from nbqueue.client.schedules.rows import next_at, prev_at, read_row, row_of, time_until
from nbqueue.client.submitting.option_keywords import SCHEDULE_DEFAULTS, ScheduleSettings
from nbqueue.client.submitting.unconfirmed import confirmed
from nbqueue.errors import (
    ScheduleNotFound,
    StoreDamaged,
    StoreError,
    TaskNotFound,
    UsageError,
)
from nbqueue.keywords import lists
from nbqueue.moved_modules import pickled_as
from nbqueue.names import did_you_mean
from nbqueue.printable import printable, shown
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.topology import Key
from nbqueue.wire.decoding import moment, whole_number
from nbqueue.wire.keys import SCHEDULE_TYPE, scheduler_history, stored_keys
from nbqueue.wire.messages import TaskMessage
from nbqueue.wire.schedule_record import asynq_id

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from nbqueue.client.obstacles.obstacle_watch import Found
    from nbqueue.client.session import Session

_TRIES = 10


@pickled_as("nbqueue.client.schedules")
class Schedule:
    """The handle of a schedule: a task that is enqueued again and again.

    Returned by `Client.schedule`, `Client.schedule_message` and `Inspector.schedules`.

    >>> s = q.schedule(report, "0 7 * * mon-fri", tz="Europe/Paris", id="report")
    >>> s.next_at, s.prev_at, s.paused
    >>> s.pause(); s.resume(); s.run_now().result(); s.history(10); s.remove()

    All but ``id`` and ``queue`` is read from the store each time, and raises `ScheduleNotFound`
    once the schedule was removed.
    """

    def __init__(self, session: Session, queue: str, schedule_id: str) -> None:
        self._session = session
        self._queue = queue
        self._id = schedule_id

    @property
    def id(self) -> str:
        """The id, which is unique in the queue."""
        return self._id

    @property
    def queue(self) -> str:
        """The queue of its tasks."""
        return self._queue

    @property
    def spec(self) -> str:
        """The times at which it is due, as passed to `Client.schedule`."""
        return self._read().entry.spec

    @property
    def tz(self) -> str:
        """The time zone of ``spec``, unless that names one itself."""
        return self._read().entry.tz

    @property
    def type(self) -> str:
        """The name of the function, or the type of the message."""
        return self._read().entry.task().type

    @property
    def next_at(self) -> datetime | None:
        """The time of the next run (UTC), with its jitter; None if there is none."""
        return next_at(self._read())

    @property
    def prev_at(self) -> datetime | None:
        """The due time of the last run (UTC), or None."""
        return prev_at(self._read())

    @property
    def paused(self) -> bool:
        """True if it is paused, so that its times pass without a run."""
        return self._read().state.is_paused

    @property
    def runs(self) -> int:
        """The number of runs so far, not counting `run_now`."""
        return self._read().state.runs

    def pause(self) -> None:
        """Pause the schedule: its times pass without a run, until `resume`."""
        self._pause(True)

    def resume(self) -> None:
        """Run again from the next time on. Times that have passed are not made up for."""
        self._pause(False)

    def run_now(self) -> TaskFuture[Any]:
        """Run it once more now, paused or not, and return the future of that task.

        Raises `SignatureError` if the schedule was changed without the key, and `StoreError` if its
        code is missing from the store.
        """
        session = self._session
        session.check_open()
        for _ in range(_TRIES):
            entry = self._read().entry
            task_id = session.ids.make()
            message = entry.task()
            message.id = task_id
            fingerprint = None
            if payloads.is_call(message.payload):
                keys, kind = session.keyring, SCHEDULE_TYPE + message.type
                call = keys.verify_call(message.payload, entry.id, self._queue, kind)
                fingerprint = call.fingerprint
                message.payload = keys.sign_call(
                    message.payload, task_id, self._queue, message.type
                )
            fire = fire_schedule(
                self._queue,
                entry,
                NewTask(task_id, message.SerializeToString(deterministic=True)),
                session.clock.now_ms(),
                due=BY_HAND,
                lock=message.unique_key if entry.unique_ms else "",
                fingerprint=fingerprint,
            )
            with confirmed(f"task {task_id!r}", f"q.get({task_id!r})", task_ids=[task_id]):
                fired = session.broker.run_confirmed(fire)
            if fired.word in ("ENQUEUED", "exists"):
                # It exists if the reply to an earlier try was lost: no other schedule has this id.
                return self._future(task_id, message)
            if fired.word != "STALE":
                break
        raise StoreError(f"the schedule {self._id!r} did not run now: {fired.word}")

    def remove(self) -> bool:
        """Remove the schedule and its history; return whether it existed. Its tasks go on."""
        self._session.check_open()
        removed = self._session.broker.run(remove_schedule(self._queue, self._id))
        # The history for programs in Go is in another slot.
        history = scheduler_history(asynq_id(self._queue, self._id))
        self._session.broker.call(("DEL", history), on=Key(history))
        return removed

    def history(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return what happened at each of its times, newest first, as dictionaries.

        The keys are ``at`` and ``due`` (UTC; ``due`` is None if run by hand), ``outcome``,
        ``task_id`` and ``detail``. ``outcome`` is ``enqueued``, or why nothing was enqueued:
        ``missed`` (no worker ran then), ``paused``, ``overlap`` (its last task had not ended),
        ``unique`` (another task holds the lock), ``exists``, ``code`` (it is missing from the
        store) or ``error``. The newest 1,000 are kept.
        """
        if not is_whole(limit, 1):
            raise UsageError(f"limit={limit!r} must be a whole number, 1 or more")
        self._read()
        key = stored_keys(self._queue).schedule_history(self._id)
        count = min(limit, 2 * HISTORY_CAP)
        [entries] = self._session.broker.call(
            ("XREVRANGE", key, "+", "-", "COUNT", count), on=self._queue
        )
        return [
            {
                "at": moment(whole_number(each.get("at"))),
                "due": moment(whole_number(each.get("due"))),
                "outcome": each.get("outcome", ""),
                "task_id": each.get("task_id") or None,
                "detail": each.get("detail", ""),
            }
            for each in read_history(entries)
        ]

    def last(self) -> TaskFuture[Any] | None:
        """Return the future of the task that it enqueued last, or None.

        Raises `TaskNotFound` if that is no longer in the store.
        """
        found = self._read()
        task_id = found.state.last
        if task_id is None:
            return None
        record = self._session.broker.find(task_id, self._queue)
        if record is None:
            raise TaskNotFound(
                f"the task {task_id}, the last of the schedule {self._id!r}, is no longer in the "
                "store: its retention is over, or it was deleted",
                task_id,
            )
        return self._future(task_id, record.message, record.state)

    @lists(SCHEDULE_DEFAULTS)
    def update(
        self,
        *,
        spec: str | None = None,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        fn: Callable[..., Any] | None = None,
        payload: Any = None,
        **settings: Unpack[ScheduleSettings],
    ) -> Schedule:
        """Change the schedule in place, and return it. All else stays, and so does the history.

        ``args`` and ``kwargs`` change together: pass both if the call has both, and with them
        ``fn``, the function as it is now. ``payload`` is that of a message. ``settings`` are those
        of `Client.schedule`: ``tz``, ``missed``, ``overlap``, ``jitter``, ``start``, ``until``,
        ``max_runs``. To change options of the task, schedule it again with the same id.

        Raises `UsageError`, `ScheduleNotFound`.
        """
        session = self._session
        session.check_open()
        for name in settings:
            if name not in SETTINGS or name == "id":
                question = did_you_mean(name, [each for each in SETTINGS if each != "id"])
                raise UsageError(
                    f"{name}= is nothing that update can change: {question or 'schedule it again'}"
                )
        for _ in range(_TRIES):
            found = self._read()
            entry, code = updated(session, found.entry, self._queue, fn, args, kwargs, payload)
            if spec is not None:
                entry = entry.changed(spec=spec)
            entry = with_settings(entry, settings)
            if put(session, self._queue, entry, found, code):
                return self
        raise StoreError(f"the schedule {self._id!r} is changed by others all the time")

    def _pause(self, is_paused: bool) -> None:
        session = self._session
        session.check_open()
        pause = pause_schedule(self._queue, self._id, is_paused, session.clock.now_ms())
        if not session.broker.run(pause):
            raise self._missing()

    def _read(self) -> StoredSchedule:
        found = find(self._session, self._queue, self._id)
        if found is None:
            raise self._missing()
        return found

    def _missing(self) -> ScheduleNotFound:
        return ScheduleNotFound(
            f"queue {self._queue!r} has no schedule {self._id!r} (any more): q.schedules() lists "
            "those that there are"
        )

    def _future(
        self, task_id: str, message: TaskMessage, state: str | None = None
    ) -> TaskFuture[Any]:
        is_call = payloads.is_call(message.payload)
        is_json = has_json_result(self._session.keyring, self._queue, message)
        about = TaskFacts(
            task_id, self._queue, message.type, None, is_call, is_json,
            is_kept=not is_call and message.retention > 0,
        )  # fmt: skip
        future = attach(self._session, about)
        if state is not None:
            future._notice(task_id, state)
        return future

    def _row(self) -> dict[str, Any] | None:
        """Read the schedule as a row; None if it was removed, or the client is closed."""
        try:
            found = find(self._session, self._queue, self._id) if self._session.is_open else None
        except StoreDamaged:
            return None
        return None if found is None else row_of(self._queue, found)

    def __repr__(self) -> str:
        row = self._row()
        if row is None:
            return printable(f"<Schedule {self._id!r} queue={self._queue}>")
        state = time_until(row["next_at"], self._session)
        why = in_short(self._obstacles())
        if row["paused"]:
            state = "paused, until s.resume()"
        elif why:
            state = f"{state}; {why}"
        zone = "" if row["tz"] == "UTC" else f" ({row['tz']})"
        return printable(f"<Schedule {self._id!r} {row['spec']!r}{zone} {row['type']} {state}>")

    def _repr_html_(self) -> str | None:
        from nbqueue.views.static_cards import schedule_card  # loaded only where it is shown

        row = self._row()
        return None if row is None else str(schedule_card(row, self._obstacles()))

    def _obstacles(self) -> Found:
        """Return why its tasks would not run."""
        session = self._session
        return session.obstacles.look({self._queue: ()}) if session.is_open else ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and (self._queue, self._id) == (other._queue, other._id)

    def __hash__(self) -> int:
        return hash((self._queue, self._id))

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Schedule cannot be pickled: it holds a connection; use q.inspector.schedules()[id]"
        )


_MOST_SHOWN = 20


def no_schedule(schedule_id: str, known: Iterable[str]) -> ScheduleNotFound:
    """Return the error for an id that no schedule has, with the one that was meant."""
    hint = did_you_mean(schedule_id, known) or "q.schedules() lists all"
    return ScheduleNotFound(f"there is no schedule {shown(schedule_id)}: {hint}")


class Schedules(list[Schedule]):
    """A list of `Schedule` handles; indexing with an id finds one."""

    def __init__(self, handles: Iterable[Schedule], rows: list[dict[str, Any]]) -> None:
        super().__init__(handles)
        self._rows = rows

    def rows(self) -> list[dict[str, Any]]:
        """Return a dictionary for each, as they were when the list was read."""
        return [dict(row) for row in self._rows]

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        for each in self:
            if each.id == key:
                return each
        raise no_schedule(key, [each.id for each in self])

    def __repr__(self) -> str:
        shown = [*map(repr, self[:_MOST_SHOWN])]  # each asks the store
        if len(self) > _MOST_SHOWN:
            shown.append(f"… and {len(self) - _MOST_SHOWN:,} more")
        return "[" + ",\n ".join(shown) + "]"


def list_schedules(session: Session, queue: str | None = None) -> Schedules:
    """Read the schedules of all queues, or of one; see `Inspector.schedules`."""
    session.check_open()
    broker = session.broker
    handles: list[Schedule] = []
    rows: list[dict[str, Any]] = []
    names = [queue] if queue is not None else broker.queues()
    if queue is not None:
        warn_of_queues(session, names)
    for each in stored_schedules(broker, names):
        handles.append(Schedule(session, each.queue, each.id))
        rows.append(read_row(*each))
    return Schedules(handles, rows)
