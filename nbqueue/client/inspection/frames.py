"""Frames of what is in the store: tasks, attempts, queues, workers, schedules and statistics.

pandas is imported only when a frame is made: it is heavy, and most programs make none.
"""

from __future__ import annotations

import gc
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from nbqueue.broker.reads.asynq_records import AsynqRecords
from nbqueue.broker.reads.list_tasks import Listing, Wanted
from nbqueue.broker.reads.models import DailyStats, TaskGroupRow
from nbqueue.broker.reads.store_reader import StoreReader
from nbqueue.broker.reads.task_table import TaskTable
from nbqueue.calls.pickling.captured_values import warn_at_user
from nbqueue.client.arguments.frame_arguments import (
    ArgumentFilter,
    TaskArguments,
    arguments_of_attempts,
    columns_of,
)
from nbqueue.client.arguments.stored_arguments import NamedArguments
from nbqueue.client.inspection.cell_loaders import cell_loaders
from nbqueue.client.inspection.limits import list_limits
from nbqueue.client.inspection.pandas_accessor import register_accessor
from nbqueue.client.inspection.task_filter import named_ids
from nbqueue.client.inspection.task_query import (
    AttemptQuery,
    TaskQuery,
    Words,
    check_arguments,
    check_limit,
    check_states,
    check_words,
    known_queues,
    named_tasks,
    since_ms,
    type_patterns,
)
from nbqueue.client.inspection.unknown_names import (
    warn_of_names,
    warn_of_parameters,
    warn_of_queues,
    warn_of_types,
)
from nbqueue.client.session import Session, warn_of
from nbqueue.client.task_groups.member_names import name_members
from nbqueue.client.task_groups.stored_groups import names_in
from nbqueue.clock import from_ms
from nbqueue.errors import LargeFrameWarning, UsageError
from nbqueue.names import fits_pattern
from nbqueue.sizes import format_size

if TYPE_CHECKING:
    from pandas import DataFrame

_MANY_TASKS = 200_000
_SECONDS_EACH = 15e-6
_BYTES_EACH = 700


def tasks(session: Session, query: TaskQuery) -> DataFrame:
    """Read tasks as a frame; see `nbqueue.Client.tasks`."""
    from nbqueue.views.frames import task_frames

    arguments = check_arguments(query.arguments)
    chosen = task_frames.chosen_columns(query.columns)
    in_states = check_states(query.state)
    check_limit(query.limit)
    read = TaskArguments(session, arguments)
    wanted = _wanted(session, query, frozenset(chosen), read)
    queues = known_queues(session, query.queue)
    if query.queue is not None and query.ids is None:
        warn_of_queues(session, queues)
    as_of_ms = session.clock.now_ms()
    listing = Listing(session.broker)
    with _collecting_nothing():
        rows = _rows(session, query, listing, wanted, queues, in_states)
        if "name" in chosen:
            name_members(session, rows)
        named = read.of(rows) if arguments is not False else []
        for i, each in enumerate(named):
            rows.fault[i] = rows.fault[i] or each.fault
        if named and any(rows.fault):
            chosen = task_frames.chosen_columns([*chosen, "fault"])
        frame = task_frames.tasks(
            rows,
            as_of_ms=as_of_ms,
            columns=chosen,
            loaders=cell_loaders(session),
            more=columns_of(named),
            seconds=query.seconds,
        )
    warn_of(listing.faults)
    if not len(rows):
        warn_of_parameters(*read.parameters)
        warn_of_types(session, check_words("type", query.type))
    return stamped(frame, session, as_of_ms)


def _wanted(
    session: Session, query: TaskQuery, chosen: frozenset[str], read: TaskArguments
) -> Wanted:
    """Return what is read of the store for a frame with the columns ``chosen``."""
    from nbqueue.views.frames import task_frames

    if query.error is not None and not isinstance(query.error, str):
        raise UsageError(f"error={query.error!r} must be text that the error contains")
    has_arguments = query.arguments is not False
    return Wanted(
        types=type_patterns(query.type),
        error=query.error or "",
        since_ms=since_ms(session, query.since),
        names=frozenset(check_words("name", query.name)),
        rules_out=read.rules_out,
        chooses_row=read.chooses,
        # Whether a result is JSON is known only from the signed payload of the call.
        with_payload=has_arguments or bool({"payload", "arguments", "result"} & chosen),
        with_result="result" in chosen,
        with_error="exception" in chosen,
        with_message=has_arguments or bool(chosen & set(task_frames.ON_DEMAND)),
        with_attempts=bool(chosen & task_frames.ATTEMPT_COLUMNS),
    )


def _rows(
    session: Session,
    query: TaskQuery,
    listing: Listing,
    wanted: Wanted,
    queues: Sequence[str],
    in_states: frozenset[str],
) -> TaskTable:
    """Read the tasks of a frame, in its order."""
    from nbqueue.views.frames import task_frames

    ids, limit = query.ids, query.limit
    if ids is not None or wanted.names:
        rows = _rows_of_some(session, ids, listing, wanted, queues)
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
    return task_frames.ordered(rows)


def _rows_of_some(
    session: Session, ids: Any, listing: Listing, wanted: Wanted, queues: Sequence[str]
) -> TaskTable:
    """Read tasks by their ids, by their names, or by both."""
    if not wanted.names:
        return listing.by_ids(queues, named_ids(ids), wanted)
    named = named_tasks(session, queues, sorted(wanted.names))
    if named.unknown:
        warn_of_names(names_in(session), named.unknown)
    tasks, members = named.tasks, named.members
    if ids is not None:
        asked = {task_id for task_id, _ in named_ids(ids)}
        tasks, members = ([each for each in some if each[0] in asked] for some in named[:2])
    if ids is None and not wanted.is_narrow:
        _warn_of_many(len(members))
    rows = listing.by_ids(queues, tasks, wanted)
    # Members have no names of their own.
    rows.extend(listing.by_ids(queues, members, replace(wanted, names=frozenset())))
    return rows.newest_of_each()


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


def attempts(session: Session, query: AttemptQuery) -> DataFrame:
    """Read finished attempts as a frame; see `nbqueue.Client.attempts`."""
    types = type_patterns(query.type)
    queues = known_queues(session, query.queue)
    if query.queue is not None:
        warn_of_queues(session, queues)
    is_selective = bool(types) or isinstance(check_arguments(query.arguments), Mapping)
    check_limit(query.limit)
    from_then_ms = since_ms(session, query.since)
    rows = session.attempt_rows(queues, from_then_ms, None if is_selective else query.limit)
    if types:
        known = {row.get("type", "") for row in rows}
        rows = [
            row for row in rows if any(fits_pattern(row.get("type", ""), each) for each in types)
        ]
        if not rows:
            warn_of_types(session, check_words("type", query.type), sorted(known))
    return _attempt_frame(session, rows, query)


def _attempt_frame(session: Session, rows: list[dict[str, str]], query: AttemptQuery) -> DataFrame:
    """Return attempts as a frame with the columns of ``query``, the newest of its limit."""
    from nbqueue.views.frames import attempt_frames

    arguments = check_arguments(query.arguments)
    chosen = attempt_frames.chosen_columns(query.columns)
    named: list[NamedArguments] = []
    if arguments is not False:
        named = arguments_of_attempts(session, rows)
        if isinstance(arguments, Mapping):
            chosen_by = ArgumentFilter(arguments)
            kept = [i for i, each in enumerate(named) if chosen_by.chooses(each)]
            if not kept:
                warn_of_parameters(chosen_by.unseen, chosen_by.seen)
            rows, named = [rows[i] for i in kept], [named[i] for i in kept]
    first = 0 if query.limit is None else max(0, len(rows) - query.limit)
    rows, named = rows[first:], named[first:]
    if any(each.fault for each in named):
        chosen = attempt_frames.chosen_columns([*chosen, "fault"])
    frame = attempt_frames.attempts(
        rows,
        columns=chosen,
        more=columns_of(named),
        faults=[each.fault for each in named],
        seconds=query.seconds,
    )
    return stamped(frame, session)


def group_attempts(
    session: Session,
    queue: str,
    from_then_ms: int,
    ids: Container[str],
    query: AttemptQuery,
) -> DataFrame:
    """Read the finished attempts of some tasks of a queue as a frame."""
    rows = session.attempt_rows((queue,), from_then_ms)
    return _attempt_frame(session, [row for row in rows if row.get("task_id") in ids], query)


def group_tasks(session: Session, queue: str, ids: Sequence[str], query: TaskQuery) -> DataFrame:
    """Read the tasks of a group as a frame, in its order."""
    frame = tasks(session, replace(query, ids=ids, queue=queue))
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


def limits(session: Session, queue: str | None) -> DataFrame:
    """Make a frame of the limits of a queue, or of all; see `nbqueue.Client.limits`."""
    from nbqueue.views.frames.queue_frames import limits

    queues = session.broker.queues() if queue is None else [queue]
    if queue is not None:
        warn_of_queues(session, queues)
    rows = [(name, each) for name in queues for each in list_limits(session, name)]
    return stamped(limits(rows), session)


def stats(session: Session, days: float, by: str, queue: Words) -> DataFrame:
    """Make a frame of statistics; see `nbqueue.Client.stats`."""
    from nbqueue.views.frames.attempt_frames import attempts
    from nbqueue.views.frames.stats import check_by, stats

    check_by(by)
    if isinstance(days, bool) or not isinstance(days, int | float) or not 0 < days <= 3650:
        raise UsageError(f"days={days!r} must be a number greater than 0, such as 7")
    names = known_queues(session, queue)
    if queue is not None:
        warn_of_queues(session, names)
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
