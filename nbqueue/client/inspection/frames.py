"""Frames of what is in the store: tasks, attempts, queues, workers, schedules and statistics.

pandas is imported only when a frame is made: it is heavy, and most programs make none.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from nbqueue.broker.large_values import whole_payload, whole_result
from nbqueue.broker.reads.asynq_records import AsynqRecords
from nbqueue.broker.reads.list_tasks import Listing, Wanted
from nbqueue.broker.reads.models import DailyStats, TaskGroupRow
from nbqueue.broker.reads.store_reader import StoreReader
from nbqueue.broker.reads.task_table import TaskRow
from nbqueue.calls.functions import load_arguments
from nbqueue.calls.payloads import is_result
from nbqueue.calls.pickling.captured_values import warn_at_user
from nbqueue.checks import is_whole
from nbqueue.client.inspection.pandas_accessor import register_accessor
from nbqueue.client.inspection.task_filter import named_ids
from nbqueue.client.inspection.task_names import queue_named
from nbqueue.client.results.json_results import has_json_result
from nbqueue.client.results.outcome import Outcome, RawOutcome
from nbqueue.client.session import Session, warn_of
from nbqueue.clock import from_ms, to_ms
from nbqueue.durations import Duration, parse_duration
from nbqueue.errors import LargeFrameWarning, UsageError
from nbqueue.names import fits_pattern, with_restored
from nbqueue.sizes import format_size
from nbqueue.wire import states
from nbqueue.wire.decoding import text
from nbqueue.wire.keys import is_queue_name, stored_keys

if TYPE_CHECKING:
    from pandas import DataFrame

_MANY_TASKS = 200_000
_SECONDS_EACH = 15e-6
_BYTES_EACH = 700

Words = str | Iterable[str] | None


@dataclass(frozen=True)
class TaskQuery:
    """The tasks and columns that a frame has; see `nbqueue.Client.tasks`."""

    state: Words = None
    queue: Words = None
    type: Words = None
    since: Duration | datetime | None = None
    ids: Any = None
    limit: int | None = None
    columns: Sequence[Any] | str | None = None
    name: Words = None
    error: str | None = None


def tasks(session: Session, query: TaskQuery) -> DataFrame:
    """Read tasks as a frame; see `nbqueue.Client.tasks`."""
    from nbqueue.views.frames import task_frames

    chosen = task_frames.chosen_columns(query.columns)
    in_states = _states(query.state)
    ids, limit = query.ids, query.limit
    check_limit(limit)
    if query.error is not None and not isinstance(query.error, str):
        raise UsageError(f"error={query.error!r} must be text that the error contains")
    wanted = Wanted(
        types=tuple(each for word in _words("type", query.type) for each in with_restored(word)),
        error=query.error or "",
        since_ms=since_ms(session, query.since),
        names=frozenset(_words("name", query.name)),
        # Whether a result is JSON is known only from the signed payload of the call.
        with_payload=bool({"payload", "arguments", "result"} & set(chosen)),
        with_result="result" in chosen,
        with_error="exception" in chosen,
        with_message=bool(set(task_frames.ON_DEMAND) & set(chosen)),
        with_attempts=bool(task_frames.ATTEMPT_COLUMNS & set(chosen)),
    )
    queues = _queues(session, query.queue)
    as_of_ms = session.clock.now_ms()
    listing = Listing(session.broker)
    with _collecting_nothing():
        if ids is not None or wanted.names:
            known = named_ids(ids) if ids is not None else _named(session, queues, wanted.names)
            rows = listing.by_ids(queues, known, wanted)
            if not in_states.issuperset(rows.state):
                rows = rows.take([i for i, each in enumerate(rows.state) if each in in_states])
        else:
            if limit is None and not wanted.is_selective:
                _warn_of_many(listing.count(queues, sorted(in_states)))
            rows = listing.tasks(queues, wanted, sorted(in_states), limit)
        if limit is not None and len(rows) > limit:
            touched = [row.touched_ms for row in rows]
            newest = sorted(range(len(rows)), key=touched.__getitem__)
            rows = rows.take(newest[len(rows) - limit :])
        loaders = _loaders(session)
        frame = task_frames.tasks(rows, as_of_ms=as_of_ms, columns=chosen, loaders=loaders)
    warn_of(listing.faults)
    return stamped(frame, session, as_of_ms)


def _warn_of_many(count: int) -> None:
    if count < _MANY_TASKS:
        return
    seconds, memory = count * _SECONDS_EACH, format_size(count * _BYTES_EACH)
    warn_at_user(
        f"a frame of {count:,} tasks takes about {seconds:.0f} seconds and {memory} of memory. "
        "Ask for fewer: q.tasks(limit=10_000) reads the newest of each queue and state, and "
        "state=, queue=, type=, since= and error= choose; q.queues() only counts them",
        LargeFrameWarning,
    )


@contextmanager
def _collecting_nothing() -> Iterator[None]:
    """Disable the garbage collector while rows are made.

    It would go through all rows again and again and free nothing, which takes a third of the time
    for 100,000 tasks.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def attempts(session: Session, since: Duration | datetime | None, limit: int | None) -> DataFrame:
    """Read finished attempts as a frame; see `nbqueue.Client.attempts`."""
    from nbqueue.views.frames.attempt_frames import attempts

    check_limit(limit)
    from_then_ms = since_ms(session, since)
    return stamped(
        attempts(session.attempt_rows(session.broker.queues(), from_then_ms, limit)), session
    )


def group_attempts(
    session: Session, queue: str, from_then_ms: int, ids: Container[str]
) -> DataFrame:
    """Read the finished attempts of some tasks of a queue as a frame."""
    from nbqueue.views.frames.attempt_frames import attempts

    rows = session.attempt_rows((queue,), from_then_ms)
    return stamped(attempts([row for row in rows if row.get("task_id") in ids]), session)


def group_tasks(session: Session, queue: str, ids: Sequence[str], columns: Any) -> DataFrame:
    """Read the tasks of a group as a frame, in its order."""
    frame = tasks(session, TaskQuery(ids=ids, queue=queue, columns=columns))
    ordered: DataFrame = frame.loc[[task_id for task_id in ids if task_id in frame.index]]
    return ordered


def queues(session: Session) -> DataFrame:
    """Read the queues as a frame; see `nbqueue.Client.queues`."""
    from nbqueue.views.frames.queue_frames import queues

    return stamped(queues(StoreReader(session.broker).queues(session.broker.queues())), session)


def groups(session: Session, rows: Sequence[TaskGroupRow]) -> DataFrame:
    """Make a frame of task groups; see `nbqueue.Client.groups`."""
    from nbqueue.views.frames.task_group_frames import task_groups

    return stamped(task_groups(rows), session)


def workers(session: Session) -> DataFrame:
    """Read the workers as a frame; see `nbqueue.Client.workers`."""
    from nbqueue.views.frames.queue_frames import workers

    now_ms = session.clock.now_ms()
    records = AsynqRecords(session.broker)
    frame = workers(records.servers(), now_ms)
    warn_of(records.faults)
    return stamped(frame, session, now_ms)


def schedules(session: Session, rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    """Make a frame of schedules; see `nbqueue.views.frames.queue_frames.schedules`."""
    from nbqueue.views.frames.queue_frames import schedules

    return stamped(schedules(rows), session)


def stats(session: Session, days: float, by: str, queue: Words) -> DataFrame:
    """Make a frame of statistics; see `nbqueue.Client.stats`."""
    from nbqueue.views.frames.attempt_frames import attempts
    from nbqueue.views.frames.stats import check_by, stats

    check_by(by)
    if isinstance(days, bool) or not isinstance(days, int | float) or not 0 < days <= 3650:
        raise UsageError(f"days={days!r} must be a number greater than 0, such as 7")
    names = _queues(session, queue)
    now_ms = session.clock.now_ms()
    rows = session.attempt_rows(names, now_ms - round(days * 86_400_000))
    counted: list[DailyStats] = []
    if by == "day":
        for each in StoreReader(session.broker).histories(names, max(1, round(days))).values():
            counted += each
    return stamped(stats(attempts(rows), by, daily_sums(counted)), session, now_ms)


def daily_sums(counted: Sequence[DailyStats]) -> list[DailyStats]:
    """Add up the counters of all queues, for each day."""
    sums: dict[date, tuple[int, int]] = {}
    for each in counted:
        processed, failed = sums.get(each.date, (0, 0))
        sums[each.date] = processed + each.processed, failed + each.failed
    return [DailyStats("", day, *numbers) for day, numbers in sums.items()]


def stamped(frame: DataFrame, session: Session, as_of_ms: int | None = None) -> DataFrame:
    """Note the store and the time in a frame, and give frames ``.nbq``."""
    register_accessor()
    moment = from_ms(session.clock.now_ms() if as_of_ms is None else as_of_ms)
    # As text, because pandas writes attributes as JSON into Parquet files.
    frame.attrs["nbqueue"] = {"store": session.store.url.redacted, "as_of": moment.isoformat()}
    return frame


def since_ms(session: Session, since: Duration | datetime | None) -> int | None:
    """Return the start in Unix milliseconds. Raises `UsageError` if it has no time zone."""
    if since is None:
        return None
    if isinstance(since, datetime):
        if since.tzinfo is None:
            raise UsageError(f"since={since!r} has no time zone: call .astimezone() on it")
        return to_ms(since)
    return session.clock.now_ms() - round(parse_duration(since, "since") * 1000)


def check_limit(limit: int | None) -> None:
    """Raise `UsageError` unless it is None or a whole number."""
    if limit is not None and not is_whole(limit, 0, sys.maxsize):
        raise UsageError(f"limit={limit!r} must be a whole number, 0 or more")


def _words(what: str, value: Words) -> tuple[str, ...]:
    if value is None:
        return ()
    try:
        words = (value,) if isinstance(value, str) else tuple(value)
    except TypeError:
        raise UsageError(f"{what}={value!r} must be text, or some texts") from None
    for word in words:
        if not isinstance(word, str) or not word or "\0" in word:
            raise UsageError(f"{what}={word!r} must be text, or some texts")
    return words


def _states(state: Words) -> frozenset[str]:
    words = _words("state", state)
    for word in words:
        if word not in states.ALL:
            raise UsageError(f"state={word!r} is no state; there are {', '.join(states.ALL)}")
    return frozenset(words or states.ALL)


def _queues(session: Session, queue: Words) -> list[str]:
    words = [queue_named(session.broker, word) for word in _words("queue", queue)]
    if not words:
        return session.broker.queues()
    if not any("*" in word for word in words):
        return [_checked_queue(session, word) for word in words]
    names = session.broker.queues()
    chosen = [
        name for word in words for name in ((word,) if "*" not in word else names)
        if any(fits_pattern(name, each) for each in with_restored(word))
    ]  # fmt: skip
    if not chosen:
        raise UsageError(f"queue={queue!r} fits no queue; there are {', '.join(names) or 'none'}")
    return [_checked_queue(session, name) for name in dict.fromkeys(chosen)]


def _checked_queue(session: Session, name: str) -> str:
    """Return ``name`` if it is valid, or if Go made a queue of that name."""
    if not is_queue_name(name):
        StoreReader(session.broker).check_queue(name)
    return name


def _named(
    session: Session, queues: Sequence[str], names: Iterable[str]
) -> list[tuple[str, str | None]]:
    """Return the ids of the newest tasks with these names, each with its queue."""
    pairs = [(queue, name) for queue in queues for name in names]
    replies = session.broker.try_call_each(
        (queue, ("GET", stored_keys(queue).name(name))) for queue, name in pairs
    )
    for name in {name for _, name in pairs if "*" in name}:
        if not any(reply for reply, pair in zip(replies, pairs, strict=True) if pair[1] == name):
            raise UsageError(
                f"name={name!r} is the name of no task, and names have no patterns: use type= for "
                "one, or filter the frame by its column name"
            )
    return [
        (text(reply), queue)
        for (queue, _), reply in zip(pairs, replies, strict=True)
        if isinstance(reply, bytes)
    ]


def _loaders(session: Session) -> dict[str, Any]:
    """Return functions that load the cells of columns whose bytes have to be verified.

    A value that cannot be loaded is replaced by the exception.
    """

    def outcome(row: TaskRow) -> Any:
        if row.state == states.COMPLETED and row.result is not None:
            body = whole_result(session.broker, row.queue, row.task_id, row.result)
            value, error = _outcome(session, row, RawOutcome(states.COMPLETED, body))
            return value if error is None else error
        return None

    def exception(row: TaskRow) -> Any:
        text = row.message.error_msg
        if row.state == states.COMPLETED or not (row.error or text):
            return None
        return _outcome(session, row, RawOutcome(states.ARCHIVED, row.error or b"", text))[1]

    def arguments(row: TaskRow) -> Any:
        message = row.message
        if not row.is_call:
            return None
        try:
            payload = whole_payload(session.broker, row.queue, row.task_id, message.payload)
            call = session.keyring.verify_call(payload, row.task_id, row.queue, message.type)
            return load_arguments(call.arguments)
        except Exception as error:
            return error

    return {"result": outcome, "exception": exception, "arguments": arguments}


def _outcome(session: Session, row: TaskRow, end: RawOutcome) -> tuple[Any, Exception | None]:
    is_json = (
        end.state == states.COMPLETED
        and row.is_call
        and not is_result(end.body)
        and has_json_result(session.keyring, row.queue, row.message)
    )
    return Outcome(row.task_id, end, session.keyring, row.is_call, is_json).load()
