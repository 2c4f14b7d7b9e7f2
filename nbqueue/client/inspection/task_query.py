"""`TaskQuery`: the tasks and columns of a frame, checked."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from nbqueue.broker.reads.store_reader import StoreReader
from nbqueue.checks import is_whole
from nbqueue.client.inspection.task_names import queue_named
from nbqueue.client.session import Session
from nbqueue.client.task_groups.stored_groups import find_members
from nbqueue.clock import to_ms
from nbqueue.durations import Duration, parse_duration
from nbqueue.errors import UsageError
from nbqueue.names import did_you_mean, fits_pattern, with_restored
from nbqueue.printable import shown
from nbqueue.wire import states
from nbqueue.wire.decoding import text
from nbqueue.wire.keys import is_queue_name, stored_keys

Words = str | Iterable[str] | None
"""A word, some words, or None for all."""


@dataclass(frozen=True)
class TaskQuery:
    """The tasks and columns that a frame has; see `nbqueue.Client.tasks`."""

    state: Words = None
    queue: Words = None
    type: Words = None
    since: Duration | datetime | None = None
    ids: Any = None
    limit: int | None = None
    columns: Sequence[Any] | str | None = None
    name: Words = None
    error: str | None = None
    arguments: bool | Mapping[str, Any] = False
    seconds: bool = False


@dataclass(frozen=True)
class AttemptQuery:
    """The attempts and columns that a frame has; see `nbqueue.Client.attempts`."""

    since: Duration | datetime | None = None
    limit: int | None = None
    queue: Words = None
    type: Words = None
    columns: Sequence[Any] | str | None = None
    arguments: bool | Mapping[str, Any] = False
    seconds: bool = False


def since_ms(session: Session, since: Duration | datetime | None) -> int | None:
    """Return the start in Unix milliseconds. Raises `UsageError` if it has no time zone."""
    if since is None:
        return None
    if isinstance(since, datetime):
        if since.tzinfo is None:
            raise UsageError(f"since={since!r} has no time zone: call .astimezone() on it")
        return to_ms(since)
    return session.clock.now_ms() - round(parse_duration(since, "since") * 1000)


def check_limit(limit: int | None) -> None:
    """Raise `UsageError` unless it is None or a whole number."""
    if limit is not None and not is_whole(limit, 0, sys.maxsize):
        raise UsageError(f"limit={limit!r} must be a whole number, 0 or more")


def check_words(what: str, value: Words) -> tuple[str, ...]:
    """Return the words of an argument; none for None. Raises `UsageError`."""
    if value is None:
        return ()
    try:
        words = (value,) if isinstance(value, str) else tuple(value)
    except TypeError:
        raise UsageError(f"{what}={value!r} must be text, or some texts") from None
    for word in words:
        if not isinstance(word, str) or not word or "\0" in word:
            raise UsageError(f"{what}={word!r} must be text, or some texts")
    return words


def type_patterns(value: Words) -> tuple[str, ...]:
    """Return the patterns of an argument ``type``, also as they are before escapes are shown."""
    return tuple(each for word in check_words("type", value) for each in with_restored(word))


def check_states(state: Words) -> frozenset[str]:
    """Return the states of an argument; all for None. Raises `UsageError`."""
    words = check_words("state", state)
    for word in words:
        if word not in states.ALL:
            raise UsageError(f"state={states.unknown_state(word)}")
    return frozenset(words or states.ALL)


def check_arguments(arguments: Any) -> bool | Mapping[str, Any]:
    """Return ``arguments=`` of a frame: True, False, or values by name. Raises `UsageError`."""
    if isinstance(arguments, bool):
        return arguments
    if not isinstance(arguments, Mapping) or not all(type(name) is str for name in arguments):
        raise UsageError(
            f"arguments={shown(arguments)} must be True, for a column of each parameter, or values "
            'by the name of the parameter, such as {"lr": 0.1}'
        )
    for name in arguments:
        if name.startswith("arg."):
            raise UsageError(
                f"arguments: {shown(name)} is the name of a column; the parameter is "
                f"{shown(name.removeprefix('arg.'))}"
            )
    return arguments or True


def known_queues(session: Session, queue: Words) -> list[str]:
    """Return the queues that fit an argument; all for None. Raises `UsageError`."""
    words = [queue_named(session.broker, word) for word in check_words("queue", queue)]
    if not words:
        return session.broker.queues()
    if not any("*" in word for word in words):
        return [_checked_queue(session, word) for word in words]
    names = session.broker.queues()
    chosen = [
        name for word in words for name in ((word,) if "*" not in word else names)
        if any(fits_pattern(name, each) for each in with_restored(word))
    ]  # fmt: skip
    if not chosen:
        near = dict.fromkeys(did_you_mean(word.replace("*", ""), names) for word in words)
        end = "".join(f": {question}" for question in [*filter(None, near)][:1])
        raise UsageError(
            f"queue={queue!r} fits no queue; there are {', '.join(names) or 'none'}{end}"
        )
    return [_checked_queue(session, name) for name in dict.fromkeys(chosen)]


def _checked_queue(session: Session, name: str) -> str:
    """Return ``name`` if it is valid, or if Go made a queue of that name."""
    if not is_queue_name(name):
        StoreReader(session.broker).check_queue(name)
    return name


class NamedTasks(NamedTuple):
    """Tasks that were asked for by name: their ids, each with its queue."""

    tasks: list[tuple[str, str | None]]
    """The newest tasks that have these names themselves."""
    members: list[tuple[str, str | None]]
    """The tasks of groups with these names."""
    unknown: list[str]
    """The names that neither a task nor a group has."""


def named_tasks(session: Session, queues: Sequence[str], names: Sequence[str]) -> NamedTasks:
    """Find the newest tasks with these names, or the members of the newest groups with them."""
    pairs = [(queue, name) for queue in queues for name in names]
    replies = session.broker.try_call_each(
        (queue, ("GET", stored_keys(queue).name(name))) for queue, name in pairs
    )
    found = NamedTasks([], [], [])
    has_task = set()
    for (queue, name), reply in zip(pairs, replies, strict=True):
        if isinstance(reply, bytes):
            found.tasks.append((text(reply), queue))
            has_task.add(name)
    for name in dict.fromkeys(names):
        if name in has_task:
            continue
        members = find_members(session, name)
        found.members.extend(each for each in members if each[1] in queues)
        if not members and "*" in name:
            raise UsageError(
                f"name={name!r} is the name of no task and no group, and names have no patterns: "
                "use type= for one, or filter the frame by its column name"
            )
        if not members:
            found.unknown.append(name)
    return found
