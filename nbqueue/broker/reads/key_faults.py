"""What lies in a store and cannot be read, as far as its keys alone tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from nbqueue.broker.broker import Broker
from nbqueue.broker.reads.slices import QUEUES_AT_ONCE, in_slices
from nbqueue.store.refusal_errors import KeyDenied
from nbqueue.transport.topology import Key
from nbqueue.wire.keys import QUEUES, SCHEDULERS, SERVERS, WORKERS, is_queue_name, stored_keys


class Fault(NamedTuple):
    """A key of the store, and what is wrong with what it holds. ``queue`` is the queue that it
    belongs to, if it does to one."""

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
    "trimmed": "string",
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
"""What the keys of a queue hold, by their names in `QueueKeys`."""

_SHARED: Final = {QUEUES: "set", SERVERS: "zset", WORKERS: "zset", SCHEDULERS: "zset"}

_SPOKEN: Final = {"zset": "sorted set"}


def queue_faults(broker: Broker, queue: str) -> list[Fault]:
    """The keys of a queue that hold something else than they are for; and its name, if nbqueue
    serves no queue of that name."""
    return faults_of_queues(broker, [queue])[queue]


def faults_of_queues(broker: Broker, queues: Sequence[str]) -> dict[str, list[Fault]]:
    """What `queue_faults` finds, of each of many queues, with few round trips."""
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
    """The keys of no queue that hold something else than they are for."""
    return _of_other_kinds(broker, [(None, key, kind) for key, kind in _SHARED.items()])


def _of_other_kinds(broker: Broker, expected: Sequence[tuple[str | None, str, str]]) -> list[Fault]:
    """Those keys that hold something else, or may not be read; ``expected``: each with its queue
    and its kind."""
    kinds = broker.try_call_each(
        (Key(key) if queue is None else queue, ("TYPE", key)) for queue, key, _ in expected
    )
    found: dict[Fault, None] = {}
    for (queue, key, wanted), kind in zip(expected, kinds, strict=True):
        if isinstance(kind, KeyDenied):
            # Rights are given by prefix, so that one fault is enough for all of a queue.
            prefix = key if queue is None else f"{key.partition(':')[0]}:{{{queue}}}:*"
            found[Fault(queue, prefix, DENIED)] = None
        elif kind not in (b"none", wanted.encode()):
            text = f"holds a {_spoken(kind.decode())} where a {_spoken(wanted)} should be"
            found[Fault(queue, key, text)] = None
    return list(found)


def _spoken(kind: str) -> str:
    return _SPOKEN.get(kind, kind)
