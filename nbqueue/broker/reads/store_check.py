"""Search a whole store for values that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator

from nbqueue.broker.broker import Broker
from nbqueue.broker.reads.key_faults import Fault, queue_faults, shared_faults
from nbqueue.broker.reads.list_tasks import LISTED, Listing, Wanted
from nbqueue.errors import StoreDamaged
from nbqueue.limits import limit_fault
from nbqueue.transport.topology import Key
from nbqueue.wire import server_reports
from nbqueue.wire.decoding import pairs, score, text
from nbqueue.wire.keys import SCHEDULERS, SERVERS, WORKERS, QueueKeys, stored_keys, stored_name
from nbqueue.wire.schedule_record import decode_entry

_ALL = Wanted(with_attempts=False)


def store_faults(broker: Broker) -> Iterator[Fault]:
    """Yield the faults in keys, tasks, schedules, limits and records.

    Keys, tasks, schedules and limits are those of all queues.

    Records are those of workers and schedulers. An index of the wrong type is one fault, and its
    entries are not read.
    """
    yield from shared_faults(broker)
    yield from _record_faults(broker)
    try:
        queues = broker.queues()
    except StoreDamaged:
        return
    for queue in queues:
        yield from queue_faults(broker, queue)
        yield from _task_faults(broker, queue)
        yield from _schedule_faults(broker, queue, stored_keys(queue))
        yield from _limit_faults(broker, queue, stored_keys(queue))


def _task_faults(broker: Broker, queue: str) -> Iterator[Fault]:
    keys = stored_keys(queue)
    for state in LISTED:
        for row in Listing(broker).tasks([queue], _ALL, [state], None):
            if row.fault is not None:
                yield Fault(queue, keys.task(row.task_id), row.fault)
        place = None if state == "aggregating" else keys.by_state(state)
        if place is not None:
            yield from _missing(broker, queue, place, state)


def _missing(broker: Broker, queue: str, place: str, state: str) -> Iterator[Fault]:
    """Yield a fault for each id in a list or set without a task."""
    keys, start, count = stored_keys(queue), 0, 500
    is_list = state in ("pending", "active")
    while True:
        [ids] = broker.try_call(
            ("LRANGE" if is_list else "ZRANGE", place, start, start + count - 1), on=queue
        )
        if isinstance(ids, StoreDamaged) or not ids:
            return
        names = [keys.task(stored_name(each)) for each in ids]
        kinds = broker.call(*(("TYPE", name) for name in names), on=queue)
        for name, kind in zip(names, kinds, strict=True):
            if kind != b"hash":
                found = "there is no such task" if kind == b"none" else f"it is a {kind.decode()}"
                yield Fault(queue, name, f"is in {place!r}, and {found}")
        start += count


def _schedule_faults(broker: Broker, queue: str, keys: QueueKeys) -> Iterator[Fault]:
    raw, due = broker.try_call(
        ("HGETALL", keys.schedules),
        ("ZRANGE", keys.schedule_due, 0, -1, "WITHSCORES"),
        on=queue,
    )
    for name, entry in pairs(raw):
        try:
            decode_entry(entry)
        except ValueError as error:
            yield Fault(queue, keys.schedules, f"schedule {text(name)!r}: {error}")
    for name, at in pairs(due):
        if score(at) is None:
            yield Fault(queue, keys.schedule_due, f"schedule {text(name)!r} is due at {text(at)}")


def _limit_faults(broker: Broker, queue: str, keys: QueueKeys) -> Iterator[Fault]:
    [found] = broker.try_call(("HGETALL", keys.limits), on=queue)
    for name, numbers in pairs(found):
        fault = limit_fault(text(numbers))
        if fault is not None:
            yield Fault(queue, keys.limits, f"limit {text(name)!r}: {fault}")


def _record_faults(broker: Broker) -> Iterator[Fault]:
    """Yield faults in the records of workers, their tasks, and schedulers."""
    for index, read, command in (
        (SERVERS, server_reports.read_server, ("GET",)),
        (WORKERS, server_reports.read_worker, ("HVALS",)),
        (SCHEDULERS, server_reports.read_entry, ("LRANGE", 0, -1)),
    ):
        [names] = broker.try_call(("ZRANGE", index, 0, -1), on=Key(index))
        if isinstance(names, StoreDamaged) or not names:
            continue
        found = broker.try_call_each(
            (Key(name), (command[0], name, *command[1:])) for name in names
        )
        for name, values in zip(names, found, strict=True):
            if isinstance(values, StoreDamaged):
                yield Fault(None, text(name), "holds something else than its name says")
                continue
            for value in values if isinstance(values, list) else [values]:
                if value and read(value) is None:
                    yield Fault(None, text(name), "it cannot be read")
                    break
