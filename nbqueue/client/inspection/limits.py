"""Limits of queues: listed, and changed while tasks run."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from nbqueue.broker.commands import limits
from nbqueue.checks import is_whole
from nbqueue.client.inspection.unknown_names import warn_of_limit, warn_of_new_queue
from nbqueue.errors import NbqueueError, UsageError
from nbqueue.limits import Limit, check_limit_name, limit_fault, read_numbers
from nbqueue.moved_modules import pickled_as
from nbqueue.printable import shown
from nbqueue.wire.decoding import pairs, text
from nbqueue.wire.keys import check_queue_name, queue_keys, stored_name

if TYPE_CHECKING:
    from nbqueue.client.session import Session


@pickled_as("nbqueue.client.limits")
class LimitInfo(NamedTuple):
    """A limit of a queue, with the tasks that run under it or wait for it."""

    name: str
    concurrency: int | None
    rate: str | None
    held: int
    waiting: int
    fault: str | None = None
    """The reason why its numbers cannot be read, or None.

    A limit that cannot be read limits nothing.
    """


def list_limits(session: Session, queue: str) -> list[LimitInfo]:
    """Read the limits of a queue, sorted by name."""
    session.check_open()
    keys = queue_keys(check_queue_name(queue))
    [found] = session.broker.call(("HGETALL", keys.limits), on=queue)
    numbers = {stored_name(name): text(numbers) for name, numbers in pairs(found)}
    names = sorted(numbers)
    calls = [("ZCARD", keys.limit_holders(name)) for name in names]
    calls += [("ZCARD", keys.waiters("limit:" + name)) for name in names]
    counts = session.broker.try_call(*calls, on=queue) if calls else []
    sizes = [count if isinstance(count, int) else 0 for count in counts]
    half = len(names)
    return [
        LimitInfo(name, *read_numbers(numbers[name]), held, waiting, limit_fault(numbers[name]))
        for name, held, waiting in zip(names, sizes[:half], sizes[half:], strict=True)
    ]


def set_limit(session: Session, limit: Limit, queue: str) -> None:
    """Write the numbers of a limit; see `Client.set_limit`."""
    session.check_open()
    if not isinstance(limit, Limit):
        raise UsageError(f"{shown(limit)} is not an nbqueue.Limit")
    if not isinstance(limit.name, str):
        raise UsageError("the name of this limit is a function: pass a limit whose name is text")
    check_queue_name(queue)
    now_ms = session.clock.now_ms()
    session.broker.known_limits.forget(queue, limit.name)
    session.broker.run(limits.set_limit(queue, limit.name, limit.numbers, now_ms, now_ms))
    warn_of_new_queue(session, queue)


def remove_limit(session: Session, name: str, queue: str) -> bool:
    """Delete a limit; return whether it existed."""
    session.check_open()
    check_limit_name(name)
    session.broker.known_limits.forget(check_queue_name(queue), name)
    existed = session.broker.run(limits.remove_limit(queue, name, session.clock.now_ms()))
    if not existed:
        with suppress(NbqueueError):  # a client without a store lists none
            warn_of_limit(name, [each.name for each in list_limits(session, queue)])
    return existed


def set_concurrency(session: Session, queue: str, concurrency: int | None) -> None:
    """Limit how many tasks of a queue run at a time, or lift that limit."""
    session.check_open()
    check_queue_name(queue)
    if concurrency is not None and not is_whole(concurrency, 1):
        raise UsageError(
            f"concurrency={shown(concurrency)} must be a whole number, 1 or more, or None"
        )
    session.broker.run(limits.set_concurrency(queue, concurrency))
    warn_of_new_queue(session, queue)
