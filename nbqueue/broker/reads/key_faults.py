"""Find keys of the wrong type, and keys that may not be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from nbqueue.broker.broker import Broker
from nbqueue.broker.reads.slices import QUEUES_AT_ONCE, in_slices
from nbqueue.store.refusal_errors import KeyDenied
from nbqueue.transport.topology import Key
from nbqueue.wire.keys import QUEUES, SCHEDULERS, SERVERS, WORKERS, is_queue_name, stored_keys


class Fault(NamedTuple):
    """A key whose value cannot be read, and the reason.

    ``queue`` is the queue of the key, if any.
    """

    queue: str | None
    key: str
    text: str


NOT_SERVED: Final = "is a queue that nbqueue does not serve, because of its name"

DENIED: Final = "may not be read by this user of the store"

_KINDS: Final = {
    "pending": "list",
    "active": "list",
    "lease": "zset",
    "scheduled": "zset",
    "retry": "zset",
    "archived": "zset",
    "completed": "zset",
    "groups": "set",
    "aggregation_sets": "zset",
    "processed": "string",
    "failed": "string",
    "events": "stream",
    "attempts": "stream",
    "code_index": "zset",
    "handlers": "hash",
    "trim_count": "string",
    "settings": "hash",
    "schedules": "hash",
    "schedule_due": "zset",
    "group_names": "zset",
    "offers": "list",
    "workers": "zset",
    "limits": "hash",
    "waiting": "zset",
    "requirements": "set",
    "capabilities": "zset",
}
"""Types of the keys of a queue, by their names in `QueueKeys`."""

_SHARED: Final = {QUEUES: "set", SERVERS: "zset", WORKERS: "zset", SCHEDULERS: "zset"}

_SPOKEN: Final = {"zset": "sorted set"}


def queue_faults(broker: Broker, queue: str) -> list[Fault]:
    """Return the faulty keys of a queue.

    They include its name if nbqueue serves no queue of that name.
    """
    return faults_of_queues(broker, [queue])[queue]


def faults_of_queues(broker: Broker, queues: Sequence[str]) -> dict[str, list[Fault]]:
    """Return the faults of many queues, by queue, with few round trips."""
    found = {q: [] if is_queue_name(q) else [Fault(q, q, NOT_SERVED)] for q in queues}
    for part in in_slices(list(found), QUEUES_AT_ONCE):
        expected = [
            (queue, getattr(stored_keys(queue), name), kind)
            for queue in part
            for name, kind in _KINDS.items()
        ]
        for fault in _of_other_kinds(broker, expected):
            found[fault.queue or ""].append(fault)
    return found


def shared_faults(broker: Broker) -> list[Fault]:
    """Return the faulty keys that belong to no queue."""
    return _of_other_kinds(broker, [(None, key, kind) for key, kind in _SHARED.items()])


def _of_other_kinds(broker: Broker, expected: Sequence[tuple[str | None, str, str]]) -> list[Fault]:
    """Return faults of keys, each given with its queue and its expected type."""
    kinds = broker.try_call_each(
        (Key(key) if queue is None else queue, ("TYPE", key)) for queue, key, _ in expected
    )
    found: dict[Fault, None] = {}
    for (queue, key, wanted), kind in zip(expected, kinds, strict=True):
        if isinstance(kind, KeyDenied):
            # Rights are granted by prefix, so one fault is enough for a whole queue.
            prefix = key if queue is None else f"{key.partition(':')[0]}:{{{queue}}}:*"
            found[Fault(queue, prefix, DENIED)] = None
        elif kind not in (b"none", wanted.encode()):
            text = f"holds a {_spoken(kind.decode())} where a {_spoken(wanted)} should be"
            found[Fault(queue, key, text)] = None
    return list(found)


def _spoken(kind: str) -> str:
    return _SPOKEN.get(kind, kind)
