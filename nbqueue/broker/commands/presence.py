"""Who serves which queues, what runs there, and what nobody tends any more.

Asynq's records of workers expire within seconds. So that what a dead worker had in hand is found,
each queue keeps who serves it, as well.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from nbqueue.broker.broker import Broker
from nbqueue.broker.script_commands import command
from nbqueue.errors import StoreError, UsageError
from nbqueue.transport.script_call import Arg, Command
from nbqueue.transport.topology import ANYWHERE, Key
from nbqueue.wire.decoding import json_object
from nbqueue.wire.keys import SERVERS, WORKERS, check_queue_name, is_queue_name, queue_keys
from nbqueue.wire.server_info import (
    RunningTask,
    WorkerRecord,
    decode_worker,
    encode_tasks,
    encode_worker,
    read_worker_id,
)

SHOWN_SECONDS = 10
"""For how long a worker counts as there after its last sign of life, as Asynq's."""
REMEMBERED_SECONDS = 86_400
"""For how long a queue knows who served it, if nobody saw it end."""

MOST_QUEUES = 256
"""How many queues a running worker can be told to serve: each has a connection of its own."""
MOST_WEIGHT = 2**31 - 1
"""The largest weight of a queue that a worker's record can hold."""

Words = tuple[Arg, ...]


def appear(record: WorkerRecord, tasks: Iterable[RunningTask]) -> Command[int]:
    """Write what a worker says of itself, and what it runs."""
    name = read_worker_id(record.worker_id)
    assert name is not None
    return command(
        "appear",
        (name.info_key, name.tasks_key),
        (
            encode_worker(record),
            SHOWN_SECONDS * 1000,
            encode_tasks(record.worker_id, tasks),
        ),
        int,
    )


def info_key(worker_id: str) -> str:
    """Where `appear` writes what a worker says of itself."""
    name = read_worker_id(worker_id)
    assert name is not None
    return name.info_key


def signs_of_life(worker_id: str, now_ms: int) -> list[Words]:
    """Plain commands that list a worker where Asynq's programs look for it. The first replies 1 if
    it was not listed."""
    name = read_worker_id(worker_id)
    assert name is not None
    until_s = now_ms // 1000 + SHOWN_SECONDS
    return [("ZADD", SERVERS, until_s, name.info_key), ("ZADD", WORKERS, until_s, name.tasks_key)]


def listing(worker_id: str, queues: Iterable[str], now_ms: int) -> list[Words]:
    """Plain commands that list a worker where it is looked for, and let go of those long gone; each
    lies in another slot. The first are `signs_of_life`."""
    now_s = now_ms // 1000
    words = signs_of_life(worker_id, now_ms)
    for key in (SERVERS, WORKERS):
        # Asynq leaves this to whoever looks at them, which may be nobody.
        words.append(("ZREMRANGEBYSCORE", key, "-inf", now_s - REMEMBERED_SECONDS))
    for queue in queues:
        key = queue_keys(queue).workers
        words.append(("ZADD", key, now_s, worker_id))
        words.append(("ZREMRANGEBYSCORE", key, "-inf", now_s - REMEMBERED_SECONDS))
        words.append(("EXPIRE", key, REMEMBERED_SECONDS))
    return words


def arrival(worker_id: str, queues: Iterable[str]) -> list[Words]:
    """Plain commands that tell the other workers of these queues that there is one more."""
    return [("PUBLISH", queue_keys(queue).wake, f"neighbour {worker_id}") for queue in queues]


def unlist(worker_id: str, queue: str) -> Words:
    """A plain command that takes a worker off the list of those who serve ``queue``."""
    return ("ZREM", queue_keys(queue).workers, worker_id)


def vanish(worker_id: str, queues: Iterable[str]) -> list[Words]:
    """Plain commands that delete what `appear` and `listing` wrote."""
    words = [unlist(worker_id, queue) for queue in queues]
    name = read_worker_id(worker_id)
    if name is not None:
        words.append(("ZREM", SERVERS, name.info_key))
        words.append(("ZREM", WORKERS, name.tasks_key))
        words.append(("DEL", name.info_key, name.tasks_key))
    return words


def begin(queue: str, tasks: Sequence[tuple[str, str, int]]) -> Command[int]:
    """Note that tasks (id, fence, attempt) have begun. Reads as how many the caller held."""
    keys = queue_keys(queue)
    names = [keys.lease]
    args: list[Arg] = []
    for task_id, fence, attempt in tasks:
        names.append(keys.task(task_id))
        args += (task_id, fence, attempt)
    return command("begin", names, args, int)


class Adopted(NamedTuple):
    """How many active tasks were looked at, and how many of them got a lease."""

    seen: int
    adopted: int


def adopt(queue: str, now_ms: int, start: int = 0, limit: int = 500) -> Command[Adopted]:
    """Give active tasks without a lease one that has run out, even for programs in Go."""
    keys = queue_keys(queue)
    return command(
        "adopt",
        (keys.active, keys.lease),
        (start, start + limit - 1, now_ms // 1000 - 60),
        lambda reply: Adopted(int(reply[0]), int(reply[1])),
    )


class Overdue(NamedTuple):
    """What there is to tend in a queue."""

    due: bool
    expired: bool
    orphans: bool
    over: bool
    old_attempts: bool
    waiting: bool
    schedules: bool
    cancels: bool = False


def overdue(queue: str, now_ms: int, oldest_ms: int) -> Command[Overdue]:
    """Ask what there is to tend; attempts before ``oldest_ms`` are too old."""
    keys = queue_keys(queue)
    return command(
        "overdue",
        (
            keys.scheduled,
            keys.retry,
            keys.active,
            keys.lease,
            keys.completed,
            keys.attempts,
            keys.waiting,
            keys.schedule_due,
            keys.cancels,
        ),
        (now_ms, oldest_ms),
        lambda reply: Overdue(*(bool(each) for each in reply)),
    )


# --- For those who look at workers, or tell them something ---


def find_worker(broker: Broker, worker_id: str) -> WorkerRecord | None:
    """What a worker says of itself; None if it is not there."""
    name = read_worker_id(worker_id)
    if name is None:
        raise UsageError(f"worker_id={worker_id!r} is no worker's id, such as 'host:1234:9f3c…'")
    [body] = broker.call(("GET", name.info_key), on=Key(name.info_key))
    return decode_worker(body) if body else None


def change_message(worker_id: str, changes: Mapping[str, int]) -> str:
    """What is said on the wake channel of a queue, to one of the workers that listen there."""
    return f"worker {worker_id} queues {json.dumps(dict(changes))}"


def read_change(value: bytes, worker_id: str) -> dict[str, int] | None:
    """The changes that are meant for ``worker_id``; None if there are none, or they make no
    sense: anybody may have said it."""
    head, _, body = value.partition(b" queues ")
    if head != worker_id.encode():
        return None
    try:
        changes = json_object(body)
    except ValueError:
        return None
    is_sound = all(is_queue_name(name) and _is_weight(each) for name, each in changes.items())
    return changes if is_sound else None


def _is_weight(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_WEIGHT


def change_queues(
    broker: Broker, worker_id: str, changes: Mapping[str, int], timeout: float = 10.0
) -> WorkerRecord:
    """Have a running worker serve other queues; return what it says of itself then.

    ``changes`` are names with weights; with 0 a queue is not served any more, and what was
    fetched from it still ends. Raises `UsageError` for what cannot be, and for a worker that is
    not there; `StoreError` if it does not follow within ``timeout`` seconds.
    """
    for queue, weight in changes.items():
        check_queue_name(queue)
        if not _is_weight(weight):
            raise UsageError(
                f"weight={weight!r} of queue {queue!r}: a weight is from 1 to {MOST_WEIGHT:,}"
            )
    record = find_worker(broker, worker_id)
    if record is None:
        raise UsageError(f"worker {worker_id!r} is not there: it ended, or never was")
    wanted = changed_queues(record.queues, changes)
    if len(wanted) > max(MOST_QUEUES, len(record.queues)):
        raise UsageError(
            f"worker {worker_id!r} would serve {len(wanted):,} queues: while it runs it can come "
            f"to serve {MOST_QUEUES} at most; start it with more, or start several workers"
        )
    if not wanted:
        raise UsageError(
            f"{sorted(record.queues)} are all that worker {worker_id!r} serves: "
            "stop it, or add another queue first"
        )
    channel = queue_keys(next(iter(record.queues))).wake
    limit = time.monotonic() + timeout
    while dict(record.queues) != wanted:
        if time.monotonic() >= limit:
            raise StoreError(f"worker {worker_id!r} does not follow: it may be hung or cut off")
        # Said again each time: it may be just connecting anew. What it says then is the answer.
        broker.call(("PUBLISH", channel, change_message(worker_id, changes)), on=ANYWHERE)
        threading.Event().wait(0.05)
        record = find_worker(broker, worker_id) or record
    return record


def changed_queues(queues: Mapping[str, int], changes: Mapping[str, int]) -> dict[str, int]:
    """``queues`` after ``changes``, in which a weight of 0 takes a queue out."""
    return {name: weight for name, weight in {**queues, **changes}.items() if weight}
