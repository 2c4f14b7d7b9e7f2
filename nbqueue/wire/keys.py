"""The names of keys and channels.

Everything of a queue shares the slot of ``{queue}``, so that one script may touch all of it on a
cluster. Asynq's names are exactly Asynq's; nbqueue's own begin with ``nbqueue:{queue}:``.
"""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

from nbqueue.errors import UsageError
from nbqueue.names import fault_of
from nbqueue.printable import shown

QUEUES: Final = "asynq:queues"
SERVERS: Final = "asynq:servers"
WORKERS: Final = "asynq:workers"
SCHEDULERS: Final = "asynq:schedulers"
CANCEL_CHANNEL: Final = "asynq:cancel"

SCHEMA_KEY: Final = "nbqueue:{~schema:00}:version"
"""The version of nbqueue's data in the store; see `nbqueue.store.schema`."""

CONFIRM_KEY: Final = "nbqueue:{~confirm:00}:mark"
"""Key that is written, for a second, to wait for earlier writes.

The wait ends when all of them are on disk.
"""
HANDLER_TYPE: Final = "nbqueue.handler"
"""The type of task in the signature of a stored handler."""

SCHEDULE_TYPE: Final = "nbqueue.schedule "
"""Prefix of the type of a call in the signature of a schedule."""

LISTENER_LENGTH: Final = 6
"""Number of leading characters of a task's id that name a channel.

The channel is that on which the end of the task is announced.
"""


def check_queue_name(name: str) -> str:
    """Return ``name`` if it can name a queue, else raise `UsageError`.

    Asynq takes any text that is not blank. Characters that break Asynqmon's paths or a cluster's
    hash tags are refused here: slashes, braces, white space at an end and control characters.
    """
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"queue={shown(name)} is empty: a queue needs a name, such as 'default'")
    fault = fault_of(name, forbidden="{}/")
    if fault is not None:
        raise UsageError(
            f"queue={shown(name)} cannot name a queue, as it {fault}: leave that out. Refused "
            "are '/', '{' and '}', invisible characters, and white space other than inner spaces"
        )
    return name


def is_queue_name(name: str) -> bool:
    """Return whether `check_queue_name` accepts ``name``."""
    try:
        check_queue_name(name)
    except UsageError:
        return False
    return True


class QueueKeys:
    """The keys of one queue.

    Get it from `queue_keys` or `stored_keys`, which cache them.
    """

    def __init__(self, queue: str) -> None:
        self.queue = queue
        asynq = f"asynq:{{{queue}}}:"
        own = f"nbqueue:{{{queue}}}:"
        self.prefix = asynq
        self.task_prefix = asynq + "t:"
        self.pending = asynq + "pending"
        self.active = asynq + "active"
        self.lease = asynq + "lease"
        self.scheduled = asynq + "scheduled"
        self.retry = asynq + "retry"
        self.archived = asynq + "archived"
        self.completed = asynq + "completed"
        self.paused = asynq + "paused"
        self.processed = asynq + "processed"
        self.failed = asynq + "failed"
        self.groups = asynq + "groups"
        self.aggregation_sets = asynq + "aggregation_sets"
        self.own_prefix = own
        self.events = own + "events"
        self.attempts = own + "attempts"
        self.code_prefix = own + "code:"
        self.code_index = own + "codes"
        self.handlers = own + "handlers"
        self.trim_count = own + "trimmed"
        self.settings = own + "settings"
        self.schedules = own + "schedules"
        self.schedule_due = own + "schedule_due"
        self.ends = own + "end:"
        self.wake = own + "wake"
        self.group_names = own + "group_names"
        self.offers = own + "offers"
        self.workers = own + "workers"
        self.limits = own + "limits"
        self.waiting = own + "waiting"
        self.requirements = own + "requirements"
        self.capabilities = own + "capabilities"
        self.cancels = own + "cancels"
        self.output_prefix = own + "output:"
        self.live = own + "live:"
        self.hand = own + "hand:"

    def task(self, task_id: str) -> str:
        return self.task_prefix + task_id

    def by_state(self, state: str) -> str:
        """The list or set that holds the ids of tasks in ``state``."""
        return self.prefix + state

    def processed_on(self, day: date) -> str:
        """The counter of tasks processed on ``day``, a day in UTC."""
        return f"{self.processed}:{day.isoformat()}"

    def failed_on(self, day: date) -> str:
        return f"{self.failed}:{day.isoformat()}"

    def group(self, group: str) -> str:
        return f"{self.prefix}g:{group}"

    def aggregation_set(self, group: str, set_id: str) -> str:
        return f"{self.prefix}g:{group}:{set_id}"

    def unique(self, task_type: str, payload: bytes | None) -> str:
        """Return Asynq's lock for (queue, type, payload).

        ``None`` is no payload, ``b""`` an empty one.
        """
        digest = "" if payload is None else hashlib.md5(payload, usedforsecurity=False).hexdigest()
        return self.lock(task_type, digest)

    def lock(self, task_type: str, digest: str) -> str:
        """The unique lock of tasks of a type that have this digest."""
        return f"{self.prefix}unique:{task_type}:{digest}"

    def code(self, fingerprint: bytes) -> str:
        return self.code_prefix + fingerprint.hex()

    def name(self, name: str) -> str:
        """The key of the id of the newest task with this name."""
        return f"{self.own_prefix}name:{name}"

    def schedule_state(self, schedule_id: str) -> str:
        return f"{self.own_prefix}schedule_state:{schedule_id}"

    def schedule_history(self, schedule_id: str) -> str:
        return f"{self.own_prefix}schedule_history:{schedule_id}"

    def limit_holders(self, name: str) -> str:
        """The set of the tasks that have a place under this limit."""
        return f"{self.own_prefix}limit:{name}"

    def limit_rate(self, name: str) -> str:
        return f"{self.own_prefix}rate:{name}"

    def waiters(self, what: str) -> str:
        """The tasks that are parked for ``what``: ``limit:<name>``, ``lock:<key>`` or
        ``need:<requirement>``."""
        return f"{self.own_prefix}wait:{what}"

    def end_channel(self, task_id: str) -> str:
        """Return the channel that announces the end of this task.

        All tasks of one client share it.
        """
        return self.ends + task_id[:LISTENER_LENGTH]

    def output(self, task_id: str) -> str:
        """The stream of the output of a task."""
        return self.output_prefix + task_id

    def staged(self, number: int) -> str:
        """The hash of a task's large values in a transaction, by its position."""
        return f"{self.own_prefix}staged:{number}"

    def live_channel(self, task_id: str) -> str:
        """The channel of the live output of this task; named as `end_channel`."""
        return self.live + task_id[:LISTENER_LENGTH]


class DayKeys(QueueKeys):
    """The keys of one queue, with its counters of a day in UTC.

    Get it from `day_keys`.
    """

    def __init__(self, queue: str, day: date) -> None:
        super().__init__(queue)
        self.processed_day = self.processed_on(day)
        self.failed_day = self.failed_on(day)


@lru_cache(maxsize=64)
def day_keys(queue: str, days: int) -> DayKeys:
    """The keys of ``queue`` on a day, counted in days since 1970."""
    return DayKeys(queue, date(1970, 1, 1) + timedelta(days=days))


@lru_cache(maxsize=4096)
def queue_keys(queue: str) -> QueueKeys:
    """The keys of ``queue``. Raises `UsageError` if it cannot name a queue."""
    return QueueKeys(check_queue_name(queue))


@lru_cache(maxsize=4096)
def stored_keys(queue: str) -> QueueKeys:
    """The keys of a queue in the store, whatever program named it.

    Programs in Go accept names that nbqueue refuses. Reads and moves by hand accept them as well;
    such a queue is not served, and nothing is submitted to it.
    """
    return QueueKeys(queue)


def stored_name(name: bytes) -> str:
    """Decode the name of a queue or group.

    Bytes that are no UTF-8 become lone surrogates, as in names of files, so that the text still
    names that key.
    """
    return name.decode("utf-8", "surrogateescape")


def name_bytes(name: str) -> bytes:
    """Encode a name that `stored_name` decoded."""
    return name.encode("utf-8", "surrogateescape")


def server_info(host: str, pid: int, server_id: str) -> str:
    return f"asynq:servers:{{{host}:{pid}:{server_id}}}"


def server_tasks(host: str, pid: int, server_id: str) -> str:
    """The hash of a worker's running tasks.

    Asynq calls a running task a worker.
    """
    return f"asynq:workers:{{{host}:{pid}:{server_id}}}"


def scheduler_entries(scheduler_id: str) -> str:
    return f"asynq:schedulers:{{{scheduler_id}}}"


def scheduler_history(entry_id: str) -> str:
    return f"asynq:scheduler_history:{entry_id}"
