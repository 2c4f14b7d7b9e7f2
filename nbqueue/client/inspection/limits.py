"""Limits of queues: listed, and changed while tasks run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nbqueue.broker.commands import limits
from nbqueue.broker.script_commands import NewTask
from nbqueue.checks import is_whole
from nbqueue.errors import UsageError
from nbqueue.limits import Limit, check_limit_name, limit_fault, read_numbers
from nbqueue.printable import shown
from nbqueue.transport.script_call import Command
from nbqueue.wire.decoding import pairs, text
from nbqueue.wire.keys import check_queue_name, queue_keys, stored_name

if TYPE_CHECKING:
    from nbqueue.client.session import Session
    from nbqueue.client.submitting.prepared_call import PreparedTask

Arguments = tuple[Sequence[Any], Mapping[str, Any]]

_SAID_SECONDS = 60.0
_MOST_SAID = 10_000
_SLICE = 500


class LimitInfo(NamedTuple):
    """A limit of a queue, with the tasks that run under it now, and those that wait for it."""

    name: str
    concurrency: int | None
    rate: str | None
    held: int
    waiting: int
    fault: str | None = None
    """Why its numbers cannot be read, or None. A limit that cannot be read limits nothing."""


def under_limit(
    unsent: PreparedTask, tasks: Sequence[NewTask], arguments: Sequence[Arguments]
) -> list[NewTask]:
    """These tasks under the limit that their options name, which is made known to the store."""
    limit = unsent.terms.options.limit
    if limit is None:
        return list(tasks)
    names = [limit.name_for(args, kwargs) for args, kwargs in arguments]
    _say(unsent.session, unsent.queue, limit, dict.fromkeys(names), unsent.due_ms())
    return [limits.limited(task, name) for task, name in zip(tasks, names, strict=True)]


def _say(
    session: Session, queue: str, limit: Limit, names: Mapping[str, None], due_ms: int | None
) -> None:
    """Write the numbers of limits, unless this client wrote the same a moment ago."""
    said, now = session.limits_said, time.monotonic()
    numbers, now_ms = limit.numbers, session.clock.now_ms()
    batch: list[Command[Any]] = []
    for name in names:
        last = said.get((queue, name))
        if due_ms is None and last is not None and last[0] == numbers and now < last[1]:
            continue
        used_ms = max(now_ms, due_ms or 0)
        batch.append(limits.set_limit(queue, name, numbers, used_ms, now_ms))
    for start in range(0, len(batch), _SLICE):
        session.broker.run_all(batch[start : start + _SLICE])
    if len(said) + len(names) > _MOST_SAID:
        said.clear()
    for name in names:
        said[queue, name] = (numbers, now + _SAID_SECONDS)


def forget_said(session: Session, queue: str) -> None:
    """The queue was removed, with its limits: say them again."""
    for key in [key for key in session.limits_said if key[0] == queue]:
        session.limits_said.pop(key, None)


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
    session.limits_said.pop((queue, limit.name), None)
    session.broker.run(limits.set_limit(queue, limit.name, limit.numbers, now_ms, now_ms))


def remove_limit(session: Session, name: str, queue: str) -> bool:
    """Delete a limit; return whether it existed."""
    session.check_open()
    check_limit_name(name)
    session.limits_said.pop((check_queue_name(queue), name), None)
    return session.broker.run(limits.remove_limit(queue, name, session.clock.now_ms()))


def set_concurrency(session: Session, queue: str, concurrency: int | None) -> None:
    """Limit how many tasks of a queue run at a time, or lift that limit."""
    session.check_open()
    check_queue_name(queue)
    if concurrency is not None and not is_whole(concurrency, 1):
        raise UsageError(
            f"concurrency={shown(concurrency)} must be a whole number, 1 or more, or None"
        )
    session.broker.run(limits.set_concurrency(queue, concurrency))
