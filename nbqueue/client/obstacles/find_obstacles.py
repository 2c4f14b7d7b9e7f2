"""Decide which obstacles keep tasks from running. Does no I/O."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from nbqueue.broker.commands.requirements import is_alive
from nbqueue.client.obstacles.obstacle import Obstacle
from nbqueue.client.obstacles.remedies import Surroundings, start_line
from nbqueue.client.obstacles.store_facts import (
    LIMIT,
    LOCK,
    TAKES,
    LimitFacts,
    LockFacts,
    QueueFacts,
    StoreFacts,
    TaskState,
)
from nbqueue.durations import format_duration
from nbqueue.names import near_names
from nbqueue.printable import printable, shown
from nbqueue.requirements import NEED, needed_worker
from nbqueue.wire import states
from nbqueue.wire.server_info import CLOSED

_LIKENESS = 0.75
_WORTH_SAYING_MS = 2000
_LONG_SECONDS = 60
_MOST_ELSEWHERE = 2
_FETCHES_NO_MORE = "fetches no more tasks, and cannot be resumed", "fetch no more tasks"


def find_obstacles(
    facts: StoreFacts, queue: str, tasks: Iterable[TaskState] | None, around: Surroundings
) -> list[Obstacle]:
    """Return why tasks of ``queue`` do not run, the most important reason first.

    ``tasks``: those that are waited for, of which some may run; None: the queue as a whole.
    """
    of_queue = facts.queues.get(queue)
    if of_queue is None:
        return []
    waiting = None if tasks is None else [t for t in tasks if _can_be_kept(t, facts.now_ms)]
    found: list[Obstacle] = []
    if waiting is None or any(task.state != states.ACTIVE for task in waiting):
        found += _paused(queue, of_queue, facts.now_ms)
        found += _unserved(queue, of_queue, facts, around)
        if waiting is None or any(task.state == states.PENDING for task in waiting):
            found += _full(queue, of_queue)
    elif waiting and not of_queue.workers:
        found += _unserved(queue, of_queue, facts, around)  # it died with the task
    if waiting is None:
        # A lock keeps equal tasks from running, and not the queue.
        reasons = [each for each in of_queue.parked if each.startswith((LIMIT, NEED))]
    else:
        reasons = [task.parked for task in waiting if task.parked]
    for parked in dict.fromkeys(reasons):
        found += _parked(queue, parked, facts, around)
    return found


def _can_be_kept(task: TaskState, now_ms: int) -> bool:
    """Return whether something may keep a task from running, other than its own time."""
    if task.state in (states.SCHEDULED, states.RETRY) and not task.parked:
        return task.due_ms is not None and task.due_ms < now_ms
    return task.state not in states.FINAL


def _paused(queue: str, facts: QueueFacts, now_ms: int) -> Iterator[Obstacle]:
    if facts.paused_s is None:
        return
    seconds = now_ms // 1000 - facts.paused_s
    is_long = facts.paused_s > 0 and seconds >= _LONG_SECONDS
    since = f" for {format_duration(seconds)}" if is_long else ""
    verb = "has been" if since else "is"
    yield Obstacle(
        "paused",
        f"queue {shown(queue)} {verb} paused{since}",
        f"`q.inspector.unpause({queue!r})` resumes it",
        queue,
    )


def _unserved(
    queue: str, facts: QueueFacts, store: StoreFacts, around: Surroundings
) -> Iterator[Obstacle]:
    if any(record.status in TAKES for record in facts.workers):
        return
    kind, why = "no_worker", ""
    start = start_line(around, queue)
    near = near_names(queue, store.served - {queue}, 1, _LIKENESS)
    if facts.workers:
        kind, why = "stopping", f": {_stopping(facts)}"
    elif facts.silent:
        kind, why = "silent", f": {_silent(facts.silent[0], store.now_ms)}"
    elif near:
        kind, why = "mistyped", f" (did you mean {shown(near[0])}?)"
    yield Obstacle(
        kind, f"no worker serves queue {shown(queue)} at {around.place}{why}", start, queue
    )
    for other in store.elsewhere.get(queue, ())[:_MOST_ELSEWHERE]:
        started = f", started in {_from_home(other.folder)}" if other.folder else ""
        yield Obstacle(
            "elsewhere",
            f"a worker for {shown(queue)} (process {other.pid}{started}) runs at another store, "
            f"{other.place}",
            f'`nbqueue.connect("{other.place}")` uses that one',
            queue,
        )


def _stopping(facts: QueueFacts) -> str:
    record = facts.workers[0]
    name = record.worker_id.rpartition(":")[0]
    more = len(facts.workers) - 1
    others = f" and {more} more" if more else ""
    how = ("shuts down", "shut down") if record.status == CLOSED else _FETCHES_NO_MORE
    return f"{printable(name)}{others} {how[bool(more)]}"


def _silent(newest: tuple[str, float], now_ms: int) -> str:
    worker_id, last_s = newest
    name = printable(worker_id.rpartition(":")[0])
    ago = format_duration(max(now_ms // 1000 - int(last_s), 1))
    return f"{name} last reported {ago} ago, so it died, is suspended or cut off"


def _full(queue: str, facts: QueueFacts) -> Iterator[Obstacle]:
    most = facts.concurrency
    if most is None or facts.active < most:
        return
    yield Obstacle(
        "concurrency",
        f"queue {shown(queue)} runs at most {_tasks(most)} at a time, and {facts.active} "
        f"run{'s' if facts.active == 1 else ''}",
        f"`q.set_concurrency({queue!r}, None)` lifts that limit",
        queue,
    )


def _parked(queue: str, parked: str, store: StoreFacts, around: Surroundings) -> Iterator[Obstacle]:
    name = parked.partition(":")[2]
    if parked.startswith(LIMIT):
        limit = store.limits.get((queue, name))
        if limit is not None and limit.waiting:
            yield from _limited(queue, name, limit, store.now_ms)
    elif parked.startswith(LOCK):
        lock = store.locks.get((queue, name))
        if lock is not None:
            yield _locked(name, lock)
    elif parked.startswith(NEED):
        requirement = parked[len(NEED) :]
        members = store.queues[queue].capabilities
        if not is_alive(requirement, members, store.alive):
            worker = needed_worker(requirement)
            yield Obstacle(
                "requirement",
                f"needs {worker}; none is alive",
                f"{start_line(around, queue)}, if it is {worker}",
                requirement,
            )


def _limited(queue: str, name: str, limit: LimitFacts, now_ms: int) -> Iterator[Obstacle]:
    is_full = limit.concurrency is not None and limit.held >= limit.concurrency
    if is_full:
        ids = ", ".join(printable(each) for each in limit.holders)
        ids += ", …" if limit.held > len(limit.holders) else ""
        held = "task has" if limit.held == 1 else "tasks have"
        why = f"{limit.held} {held} all of its {limit.concurrency} places ({ids})"
        if limit.concurrency == 1:
            why = f"task {ids} has its only place"
    elif limit.rate is not None:
        why = f"it lets {limit.rate} start"
        if limit.next_ms is not None and limit.next_ms - now_ms >= _WORTH_SAYING_MS:
            why += f", the next in {format_duration((limit.next_ms - now_ms) // 1000)}"
    else:
        return
    yield Obstacle(
        "limit",
        f"limit {shown(name)} is used up, and {_tasks(limit.waiting)} "
        f"wait{'s' if limit.waiting == 1 else ''} for it: {why}",
        f"`q.limits({queue!r})` lists limits, `q.set_limit(…)` changes them",
        name,
    )


def _locked(name: str, lock: LockFacts) -> Obstacle:
    holder = printable(lock.holder)
    most = ""
    if lock.left_ms is not None:
        most = f", for {format_duration(max(lock.left_ms // 1000, 1))} at most"
    return Obstacle(
        "lock",
        f"another task holds the unique lock: {holder}{most}",
        f"it runs when that has ended; `q.get({holder!r})` shows it",
        name,
    )


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count:,} tasks"


def _from_home(path: str) -> str:
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if path.startswith(home + os.sep) else path


def obstacles_of_queues(
    facts: StoreFacts, queues: Sequence[str], around: Surroundings
) -> dict[str, tuple[Obstacle, ...]]:
    """Return the obstacles of each queue that has some."""
    found = {queue: tuple(find_obstacles(facts, queue, None, around)) for queue in queues}
    return {queue: obstacles for queue, obstacles in found.items() if obstacles}
