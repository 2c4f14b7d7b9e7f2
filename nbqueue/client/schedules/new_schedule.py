"""Create schedules of calls and of messages, or replace those with the same id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nbqueue.calls import payloads
from nbqueue.calls.argument_digest import call_digest
from nbqueue.calls.functions import dump_arguments
from nbqueue.client.schedules.entries import call_text, find, new_entry, options_of, put, signed
from nbqueue.client.schedules.schedule import Schedule
from nbqueue.client.submitting.decorated_function import undecorated
from nbqueue.client.submitting.prepared_call import PreparedCall
from nbqueue.client.submitting.prepared_message import PreparedMessage
from nbqueue.client.submitting.resolved_options import ResolvedOptions
from nbqueue.errors import StoreError, UsageError
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.schedule_record import ScheduleEntry

if TYPE_CHECKING:
    from nbqueue.client.session import Session

_TRIES = 10


def schedule_call(
    session: Session,
    changes: Mapping[str, Any],
    settings: Mapping[str, Any],
    fn: Callable[..., Any],
    spec: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Schedule:
    """Create or replace the schedule of a call; see `Client.schedule`."""
    session.check_open()
    fn, own = undecorated(fn)
    terms = ResolvedOptions(options_of({**own, **changes}, settings))
    if terms.seed is not None:
        raise UsageError(
            f"seed={terms.seed} cannot be given to a schedule, whose runs would all draw the same "
            "numbers: make a generator in the function, numpy.random.default_rng()"
        )
    call = PreparedCall(session, terms, fn)
    call.shapes.check(args, kwargs)
    arguments = dump_arguments(args, kwargs, callee=call.code.name, fn=call.fn)
    session.check_value(len(arguments), f"the arguments of {call.code.name}")
    digest = call_digest(call.fn, args, kwargs)
    if call.is_unique:
        call.set_lock(digest)
    name = call.code.name
    is_plain = not args and not kwargs and not name.endswith("<lambda>")
    entry = new_entry(call, spec, call_text(name, args, kwargs), name if is_plain else
                       f"{name}-{digest[:8]}", settings)  # fmt: skip
    unsigned = payloads.pack_call(call.code.fingerprint, arguments, call.flags)
    entry = signed(session, call.queue, entry, call.message, unsigned)
    return _keep(session, call.queue, entry, (call.code.fingerprint, call.code.blob))


def schedule_message(
    session: Session,
    changes: Mapping[str, Any],
    settings: Mapping[str, Any],
    type: str,
    payload: Any,
    spec: str,
) -> Schedule:
    """Create or replace the schedule of a message; see `Client.schedule_message`."""
    session.check_open()
    message = PreparedMessage(session, options_of(changes, settings), type, payload)
    body = message.message.payload
    default_id = f"{type}-{queue_keys(message.queue).unique('', body)[-8:]}" if body else type
    entry = new_entry(message, spec, "", default_id, settings)
    return _keep(session, message.queue, entry, None)


def _keep(
    session: Session, queue: str, entry: ScheduleEntry, code: tuple[bytes, bytes] | None
) -> Schedule:
    """Write a schedule, in place of one with the same id."""
    for _ in range(_TRIES):
        if put(session, queue, entry, find(session, queue, entry.id), code):
            return Schedule(session, queue, entry.id)
    raise StoreError(f"the schedule {entry.id!r} is changed by others all the time")
