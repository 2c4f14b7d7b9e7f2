"""Stored schedules: entries are made, checked, signed, written and read back."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from nbqueue.broker.commands.limits import set_limit
from nbqueue.broker.commands.schedules import STATE_FIELDS, ScheduleState, put_schedule, read_state
from nbqueue.broker.due_times import first_due
from nbqueue.calls import payloads
from nbqueue.calls.argument_digest import call_digest
from nbqueue.calls.functions import dump_arguments
from nbqueue.checks import is_whole
from nbqueue.client.submitting.decorated_function import undecorated
from nbqueue.client.submitting.prepared_call import PreparedCall
from nbqueue.client.submitting.prepared_message import PreparedMessage
from nbqueue.client.submitting.prepared_task import NAME_SECONDS, PreparedTask
from nbqueue.client.submitting.resolved_options import ResolvedOptions
from nbqueue.client.submitting.unconfirmed import confirmed
from nbqueue.clock import to_ms
from nbqueue.cron import parse_spec, zone_of
from nbqueue.durations import parse_duration
from nbqueue.errors import StoreDamaged, UsageError
from nbqueue.names import did_you_mean, fault_of, not_among
from nbqueue.options import TaskOptions
from nbqueue.printable import shown
from nbqueue.wire.decoding import time_ms
from nbqueue.wire.keys import SCHEDULE_TYPE, queue_keys, stored_keys
from nbqueue.wire.messages import TaskMessage
from nbqueue.wire.schedule_record import MISSED, ScheduleEntry, decode_entry

if TYPE_CHECKING:
    from nbqueue.client.session import Session

SETTINGS = ("id", "tz", "missed", "overlap", "jitter", "start", "until", "max_runs")

_LONGEST_ID = 200
_LONGEST_TEXT = 1_000
_ONE_MOMENT = ("task_id", "at", "delay", "deadline")


class StoredSchedule(NamedTuple):
    """A schedule as it was read from the store."""

    entry: ScheduleEntry
    state: ScheduleState
    due_ms: int | None


def options_of(changes: Mapping[str, Any], settings: Mapping[str, Any]) -> TaskOptions:
    """Return the options of a schedule's tasks. Raises `UsageError` for those of one task."""
    named = {name: value for name, value in settings.items() if name not in SETTINGS}
    known = {each.name for each in fields(TaskOptions)}
    for name in named:
        if name not in known:
            question = did_you_mean(name, (*SETTINGS, *known))
            raise UsageError(
                f"{shown(name)} is neither a setting of a schedule ({', '.join(SETTINGS)}) nor an "
                f"option of a task{f': {question}' if question else ''}"
            )
    options = TaskOptions().merged({**changes, **named})
    for name in _ONE_MOMENT:
        if getattr(options, name) is not None:
            raise UsageError(f"{name}= is of one task, and a schedule makes many: leave it out")
    if options.group is not None:
        raise UsageError(
            f"group={shown(options.group)} is not for schedules, whose tasks run when they are "
            "due: leave it out"
        )
    if options.limit is not None and not isinstance(options.limit.name, str):
        raise UsageError(
            f"limit={shown(options.limit)} of a schedule must have a name that is text: it has "
            "one set of arguments"
        )
    if options.on_conflict != "raise":
        raise UsageError(
            f"on_conflict={shown(options.on_conflict)} is for a caller: a schedule passes over a "
            "run while another task holds its unique lock"
        )
    return options


def new_entry(
    unsent: PreparedTask, spec: str, text: str, default_id: str, settings: Mapping[str, Any]
) -> ScheduleEntry:
    """Make the entry of a schedule from its prepared task."""
    terms = unsent.resolved
    name = unsent.facts.name or ""
    limit = terms.options.limit
    entry = ScheduleEntry(
        id=_checked_id(settings.get("id"), default_id),
        spec=spec,
        tz="UTC",
        message=unsent.message.SerializeToString(deterministic=True),
        text=text,
        revision="",
        unique_ms=terms.unique_ms or 0,
        name=name,
        name_seconds=max(NAME_SECONDS, int(terms.retention) + 86_400) if name else 0,
        created_ms=unsent.session.clock.now_ms(),
        limit=limit.name_for((), {}) if limit is not None else "",
        limit_numbers=limit.numbers if limit is not None else "",
    )
    return with_settings(entry, settings)


def _checked_id(schedule_id: Any, default: str) -> str:
    if schedule_id is None:
        return "".join(c for c in default if c.isprintable() and not c.isspace())[:_LONGEST_ID]
    fault = "is no text" if not isinstance(schedule_id, str) else "is empty"
    if isinstance(schedule_id, str) and schedule_id:
        found = fault_of(schedule_id, inner_space=False, longest=_LONGEST_ID)
        if found is None:
            return schedule_id
        fault = found
    raise UsageError(
        f"id={shown(schedule_id)} cannot name a schedule, as it {fault}: it must be text without "
        f"white space, of {_LONGEST_ID} characters at most"
    )


def with_settings(entry: ScheduleEntry, settings: Mapping[str, Any]) -> ScheduleEntry:
    """Return the entry with checked settings, and with a new revision."""
    values = {name: settings[name] for name in settings if name in SETTINGS and name != "id"}
    changes: dict[str, Any] = {"revision": secrets.token_hex(3)}
    if values.get("tz") is not None:
        changes["tz"] = zone_of(values["tz"]).key
    if "missed" in values:
        if values["missed"] not in MISSED:
            raise not_among("missed", values["missed"], ("skip", "once", "all"))
        changes["missed"] = values["missed"]
    if "overlap" in values:
        if not isinstance(values["overlap"], bool):
            raise UsageError(f"overlap={shown(values['overlap'])} must be True or False")
        changes["overlap"] = values["overlap"]
    if "jitter" in values:
        changes["jitter_ms"] = round(parse_duration(values["jitter"] or 0, "jitter") * 1000)
    for name in ("start", "until"):
        if name in values:
            changes[name + "_ms"] = _moment(name, values[name])
    if "max_runs" in values:
        most = values["max_runs"]
        if most is not None and not is_whole(most, 1):
            raise UsageError(f"max_runs={shown(most)} must be a whole number, 1 or more")
        changes["max_runs"] = most or 0
    return entry.changed(**changes)


def _moment(name: str, value: Any) -> int:
    if value is None:
        return 0
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise UsageError(
            f"{name}={shown(value)} must be a datetime with a time zone: call .astimezone() on "
            "it for local time"
        )
    return to_ms(value)


def signed(
    session: Session, queue: str, entry: ScheduleEntry, message: TaskMessage, unsigned: bytes
) -> ScheduleEntry:
    """Return the entry with a signed call as its template, valid only for this schedule."""
    kind = SCHEDULE_TYPE + message.type
    message.payload = session.keyring.sign_call(unsigned, entry.id, queue, kind)
    return entry.changed(message=message.SerializeToString(deterministic=True))


def updated(
    session: Session,
    entry: ScheduleEntry,
    queue: str,
    fn: Callable[..., Any] | None,
    args: Iterable[Any] | None,
    kwargs: Mapping[str, Any] | None,
    payload: Any,
) -> tuple[ScheduleEntry, tuple[bytes, bytes] | None]:
    """Return the entry with another call or payload, and the code of that call."""
    message = entry.task()
    if not payloads.is_call(message.payload):
        if fn is not None or args is not None or kwargs is not None:
            raise UsageError("fn=, args= and kwargs= are of calls: this schedule sends a message")
        if payload is None:
            return entry, None
        made = PreparedMessage(session, TaskOptions(queue=queue), message.type, payload)
        message.payload = made.message.payload
        if message.unique_key:
            message.unique_key = queue_keys(queue).unique(message.type, message.payload)
        return entry.changed(message=message.SerializeToString(deterministic=True)), None
    if payload is not None:
        raise UsageError(
            "payload= is of messages: this schedule makes a call; say args= or kwargs="
        )
    if fn is None and args is None and kwargs is None:
        return entry, None
    old = session.keyring.verify_call(
        message.payload, entry.id, queue, SCHEDULE_TYPE + message.type
    )
    if message.unique_key and fn is None:
        raise UsageError("the unique lock of this schedule needs its function: pass fn=, too")
    some, more = tuple(args or ()), dict(kwargs or {})
    if fn is None:
        arguments = dump_arguments(some, more, callee=message.type)
        unsigned = payloads.pack_call(old.fingerprint, arguments, old.flags)
        code = None
    else:
        fn, _ = undecorated(fn)
        call = PreparedCall(session, ResolvedOptions(TaskOptions(queue=queue)), fn)
        call.shapes.check(some, more)
        message.type = call.code.name
        arguments = dump_arguments(some, more, callee=message.type, fn=fn)
        if message.unique_key:
            lock = queue_keys(queue).lock(message.type, call_digest(fn, some, more))
            message.unique_key = lock
        flags = call.flags | old.flags & (payloads.FAIL_IF_LOST | payloads.FRESH)
        unsigned = payloads.pack_call(call.code.fingerprint, arguments, flags)
        code = (call.code.fingerprint, call.code.blob)
    entry = entry.changed(text=call_text(message.type, some, more))
    return signed(session, queue, entry, message, unsigned), code


def put(
    session: Session,
    queue: str,
    entry: ScheduleEntry,
    found: StoredSchedule | None,
    code: tuple[bytes, bytes] | None,
) -> bool:
    """Write an entry in place of ``found``; return False if that has changed meanwhile."""
    spec = parse_spec(entry.spec, entry.tz)
    now_ms = session.clock.now_ms()
    # Running the same cell again must not postpone a run that is due.
    keeps_due = found is not None and found.entry.timing == entry.timing
    due_ms = first_due(spec, entry, now_ms)
    if due_ms is None and not keeps_due:
        raise UsageError(f"spec={shown(entry.spec)} is never due between start= and until=")
    session.broker._register(queue)
    limit = (entry.limit, entry.limit_numbers)
    if entry.limit and (found is None or (found.entry.limit, found.entry.limit_numbers) != limit):
        # Not at other changes: the limit may have been given other numbers meanwhile.
        session.broker.run(set_limit(queue, *limit, now_ms, now_ms))
    fingerprint, blob = code or (None, b"")
    command = put_schedule(
        queue,
        entry,
        due_ms,
        now_ms,
        seen_revision=found.state.revision if found else "",
        keeps_due=keeps_due,
        fingerprint=fingerprint,
        blob=blob,
    )
    what = f"schedule {entry.id!r} of queue {queue!r}"
    with confirmed(what, "q.inspector.schedules()", schedule_id=entry.id):
        return session.broker.run_confirmed(command)


def find(session: Session, queue: str, schedule_id: str) -> StoredSchedule | None:
    """Read a schedule from the store; None if there is none. Raises `StoreDamaged`."""
    keys = stored_keys(queue)
    raw, values, due = session.broker.call(
        ("HGET", keys.schedules, schedule_id),
        ("HMGET", keys.schedule_state(schedule_id), *STATE_FIELDS),
        ("ZSCORE", keys.schedule_due, schedule_id),
        on=queue,
    )
    if raw is None:
        return None
    try:
        entry = decode_entry(raw)
    except ValueError as error:
        raise StoreDamaged(f"the schedule {shown(schedule_id)} cannot be read: {error}") from None
    return StoredSchedule(entry, read_state(values), time_ms(due))


def call_text(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return a call in readable form, which Asynq's programs show as the payload."""
    parts = [_short(each) for each in args]
    parts += [f"{key}={_short(value)}" for key, value in kwargs.items()]
    return _one_line(f"{name}({', '.join(parts)})")


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:79] + "…"


def payload_text(payload: bytes) -> str:
    """Return the payload of a message in readable form."""
    return _one_line(payload[: 2 * _LONGEST_TEXT].decode("utf-8", "replace"))


def _one_line(text: str) -> str:
    # Asynq's programs do not show text with control characters.
    clean = "".join(c if c.isprintable() else " " for c in text.encode("utf-8", "replace").decode())
    return clean if len(clean) <= _LONGEST_TEXT else clean[: _LONGEST_TEXT - 1] + "…"
