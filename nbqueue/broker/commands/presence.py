"""Records of workers: the queues that they serve and the tasks that they run.

Asynq's records of workers expire within seconds. Each queue also keeps a longer list of its
workers, so that the tasks of a dead one are found.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping

from nbqueue.broker.broker import Broker
from nbqueue.broker.script_commands import command
from nbqueue.errors import StoreError, UsageError
from nbqueue.transport.script_call import Arg, Command
from nbqueue.transport.topology import Key
from nbqueue.wire.decoding import json_object
from nbqueue.wire.keys import SERVERS, WORKERS, check_queue_name, is_queue_name, queue_keys
from nbqueue.wire.server_info import (
    CLOSED,
    RunningTask,
    WorkerRecord,
    decode_worker,
    encode_tasks,
    encode_worker,
    read_worker_id,
)

SHOWN_SECONDS = 10
"""Seconds for which a worker counts as alive after a heartbeat, as in Asynq."""
REMEMBERED_SECONDS = 86_400
"""Seconds for which a queue lists a worker that did not end in order."""

MOST_QUEUES = 256
"""Queues that a running worker can be made to serve."""
MOST_WEIGHT = 2**31 - 1
"""The largest weight of a queue that a worker's record can hold."""

Words = tuple[Arg, ...]


def heartbeat_worker(record: WorkerRecord, tasks: Iterable[RunningTask]) -> Command[int]:
    """Write the record of a worker and of the tasks that it runs.

    Both expire without a further heartbeat.
    """
    name = read_worker_id(record.worker_id)
    assert name is not None
    return command(
        "heartbeat_worker",
        None,
        {
            "info_body": encode_worker(record),
            "ttl_ms": SHOWN_SECONDS * 1000,
            "entries": encode_tasks(record.worker_id, tasks),
        },
        int,
        other_keys={"info": name.info_key, "tasks": name.tasks_key},
    )


def info_key(worker_id: str) -> str:
    """The key of the record that `heartbeat_worker` writes."""
    name = read_worker_id(worker_id)
    assert name is not None
    return name.info_key


def signs_of_life(worker_id: str, now_ms: int) -> list[Words]:
    """Plain commands that list a worker for Asynq's programs.

    The first replies 1 if the worker was not listed.
    """
    name = read_worker_id(worker_id)
    assert name is not None
    until_s = now_ms // 1000 + SHOWN_SECONDS
    return [("ZADD", SERVERS, until_s, name.info_key), ("ZADD", WORKERS, until_s, name.tasks_key)]


def listing(worker_id: str, queues: Iterable[str], now_ms: int) -> list[Words]:
    """Plain commands that list a worker, and remove workers that are long gone.

    Each concerns another slot. The first are `signs_of_life`.
    """
    now_s = now_ms // 1000
    words = signs_of_life(worker_id, now_ms)
    for key in (SERVERS, WORKERS):
        # Asynq does this only when the list is read.
        words.append(("ZREMRANGEBYSCORE", key, "-inf", now_s - REMEMBERED_SECONDS))
    for queue in queues:
        key = queue_keys(queue).workers
        words.append(("ZADD", key, now_s, worker_id))
        words.append(("ZREMRANGEBYSCORE", key, "-inf", now_s - REMEMBERED_SECONDS))
        words.append(("EXPIRE", key, REMEMBERED_SECONDS))
    return words


def arrival(worker_id: str, queues: Iterable[str]) -> list[Words]:
    """Plain commands that announce a new worker to the others of its queues."""
    return [("PUBLISH", queue_keys(queue).wake, f"neighbour {worker_id}") for queue in queues]


def unlist(worker_id: str, queue: str) -> Words:
    """A plain command that takes a worker off the list of a queue."""
    return ("ZREM", queue_keys(queue).workers, worker_id)


def vanish(worker_id: str, queues: Iterable[str]) -> list[Words]:
    """Plain commands that delete the records of `heartbeat_worker` and `listing`."""
    words = [unlist(worker_id, queue) for queue in queues]
    name = read_worker_id(worker_id)
    if name is not None:
        words.append(("ZREM", SERVERS, name.info_key))
        words.append(("ZREM", WORKERS, name.tasks_key))
        words.append(("DEL", name.info_key, name.tasks_key))
    return words


# --- For clients ---


def find_worker(broker: Broker, worker_id: str) -> WorkerRecord | None:
    """Read the record of a worker; None if there is none."""
    name = read_worker_id(worker_id)
    if name is None:
        raise UsageError(f"worker_id={worker_id!r} is no worker's id, such as 'host:1234:9f3c…'")
    [body] = broker.call(("GET", name.info_key), on=Key(name.info_key))
    return decode_worker(body) if body else None


def change_message(worker_id: str, changes: Mapping[str, int]) -> str:
    """Encode a message that changes the queues of one worker.

    It is for the wake channel of a queue.
    """
    return f"worker {worker_id} queues {json.dumps(dict(changes))}"


def read_change(value: bytes, worker_id: str) -> dict[str, int] | None:
    """Read the changes for ``worker_id`` from a message of any sender.

    None if it is for another worker, or malformed.
    """
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


def is_drain_message(value: bytes, worker_id: str) -> bool:
    """Return whether a message of any sender asks ``worker_id`` to drain."""
    return value == f"{worker_id} drain".encode()


def drain_worker(broker: Broker, worker_id: str, timeout: float = 10.0) -> int:
    """Make a worker fetch no more tasks and end after those that it runs.

    Return the number of these. Raises `UsageError` for a missing worker, `StoreError` if the worker
    does not follow within ``timeout`` seconds.
    """
    record = find_worker(broker, worker_id)
    if record is None:
        raise UsageError(f"worker {worker_id!r} is not there: it ended, or never was")
    channel = queue_keys(next(iter(record.queues))).wake
    limit = time.monotonic() + timeout
    while record is not None and record.status != CLOSED:
        if time.monotonic() >= limit:
            raise StoreError(
                f"worker {worker_id!r} does not follow: it may be hung, cut off, or of a version "
                "that cannot be drained so. SIGTSTP and then SIGTERM drain that"
            )
        broker.call(("PUBLISH", channel, f"worker {worker_id} drain"), on=Key(channel))
        threading.Event().wait(0.05)
        record = find_worker(broker, worker_id)
    return 0 if record is None else record.running


def change_queues(
    broker: Broker, worker_id: str, changes: Mapping[str, int], timeout: float = 10.0
) -> WorkerRecord:
    """Make a running worker serve other queues, and return its new record.

    ``changes`` are names with weights; with 0 a queue is not served any more, but its tasks that
    were fetched still run. Raises `UsageError` for invalid changes and for a missing worker,
    `StoreError` if the worker does not follow within ``timeout`` seconds.
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
        # Published each time, as the worker may be reconnecting; its new record is the answer.
        broker.call(("PUBLISH", channel, change_message(worker_id, changes)), on=Key(channel))
        threading.Event().wait(0.05)
        record = find_worker(broker, worker_id) or record
    return record


def changed_queues(queues: Mapping[str, int], changes: Mapping[str, int]) -> dict[str, int]:
    """Return ``queues`` after ``changes``, where a weight of 0 removes a queue."""
    return {name: weight for name, weight in {**queues, **changes}.items() if weight}
