"""Options of a task, validated when they are set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from operator import index
from typing import Any

from nbqueue.checks import INT32, is_whole
from nbqueue.durations import Duration, parse_duration
from nbqueue.errors import UsageError
from nbqueue.limits import Limit
from nbqueue.names import fault_of, known_names, not_among
from nbqueue.printable import shown

LONGEST_NAME = 1_000
"""The maximum length of the name of a task or a task group, in characters."""
LONGEST_SEED = 1_024
"""The maximum size of a seed, in bytes."""
_SET_NAME = re.compile(r":[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)


@dataclass(frozen=True)
class TaskOptions:
    """The options of a task. Durations are seconds, `timedelta` or text such as ``"10m"``.

    queue: the name of its queue. Default ``"default"``.
    retry: how often it is retried after an error. Default 0 for calls, 25 for messages.
    timeout: the maximum duration of one attempt, to the millisecond; Go programs round it up to
        whole seconds. Default none for calls, 30 minutes for messages.
    deadline: the time by which it must finish, a timezone-aware datetime; no attempt runs past it.
        Default none.
    delay: how long from now it becomes due, a duration. Default: at once.
    at: when it becomes due, a timezone-aware datetime, instead of ``delay``. Default: at once.
    retention: how long the finished task and its result are kept, a duration. Default one day for
        calls; 0 for messages, which are deleted on success.
    unique: for how long, from the time it is due, no other task in its queue may have an equal
        function and arguments, or type and payload; a duration of at least one second. The lock
        ends earlier with the task, and lasts while the task is retried. Default none.
    on_conflict: what to do if another task holds the lock: ``"raise"`` `TaskNotUnique`,
        ``"existing"`` (return a future of that task), ``"replace"`` (delete that task; raises if it
        is running) or ``"after"`` (wait until that task has ended). Default ``"raise"``.
    group: the aggregation group of a message. The message waits in it until a worker's aggregator
        combines all messages of the group into one task. Default none.
    limit: an `nbqueue.Limit` on how many tasks that share its name run at a time, or how many start
        per period. Default none.
    task_id: an id of your own. Default: a new one.
    name: a name by which `Client.get` finds the newest task that has it. Default none.
    headers: text by name, for the handler or the function; never decides what runs. Default none.
    on_lost: ``"rerun"`` (a task whose process died runs again, without using up a retry) or
        ``"fail"``. Default ``"rerun"``.
    retry_delay: the pause before a retry: a duration, a list of them (the last repeats),
        `nbqueue.exponential`, or a function of (retries so far, error, task). Default for calls:
        1 s, doubling with jitter up to 10 minutes; for messages: Asynq's, from 15 s on.
    retry_on: the exception types that are retried. Default: all.
    codec: how the result of a call is encoded: ``"pickle"`` (any object, signed) or ``"json"``
        (JSON values only, unsigned, readable by Go programs; tuples come back as lists). Default
        ``"pickle"``.
    seed: a whole number, 0 or more, from which each task of a call draws its own random numbers
        with `nbqueue.rng`. They are equal in every attempt and do not depend on the size of the
        map. Default none.
    fresh: True runs each attempt of a call in a new process that ends with it, so that it shares no
        state with other tasks. Starting the process takes a while. Default False.
    """

    queue: str = "default"
    retry: int | None = None
    timeout: Duration | None = None
    deadline: datetime | None = None
    delay: Duration | None = None
    at: datetime | None = None
    retention: Duration | None = None
    unique: Duration | None = None
    on_conflict: str = "raise"
    group: str | None = None
    limit: Limit | None = None
    task_id: str | None = None
    name: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    on_lost: str = "rerun"
    retry_delay: Any = None
    retry_on: Any = None
    codec: str = "pickle"
    seed: int | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        self._check_queue()
        if self.retry is not None and not is_whole(self.retry, 0, INT32):
            raise UsageError(f"retry={shown(self.retry)} must be a whole number, 0 or more")
        for name in ("timeout", "delay", "retention"):
            value = getattr(self, name)
            if value is not None:
                parse_duration(value, name)
        if self.unique is not None and parse_duration(self.unique, "unique") < 1:
            raise UsageError(
                f"unique={shown(self.unique)} is too short: it must be a second at least"
            )
        _check_choice("on_conflict", self.on_conflict, "raise", "existing", "replace", "after")
        if self.limit is not None and not isinstance(self.limit, Limit):
            raise UsageError(f"limit={shown(self.limit)} must be an nbqueue.Limit")
        self._check_due_time()
        for name in ("group", "task_id", "name"):
            if getattr(self, name) is not None:
                _check_text(name, getattr(self, name))
        self._check_group()
        self._check_headers()
        if self.seed is not None:
            check_seed(self.seed)
        _check_choice("codec", self.codec, "pickle", "json")
        if not isinstance(self.fresh, bool):
            raise UsageError(f"fresh={shown(self.fresh)} must be True or False")
        _check_choice("on_lost", self.on_lost, "rerun", "fail")

    def _check_queue(self) -> None:
        _check_text("queue", self.queue)
        if any(c in "{}/" or not c.isprintable() for c in self.queue):
            raise UsageError(
                f"queue={shown(self.queue)} cannot name a queue: it must not contain "
                "'/', '{', '}' or invisible characters"
            )

    def _check_due_time(self) -> None:
        for name in ("deadline", "at"):
            _check_moment(name, getattr(self, name))
        if self.delay is not None and self.at is not None:
            raise UsageError("delay= and at= both set the due time: pass one of them")

    def _check_group(self) -> None:
        if self.group is None:
            return
        if _SET_NAME.search(self.group):
            raise UsageError(
                f"group={shown(self.group)} ends as the keys of aggregation sets do: take "
                "another name"
            )
        if self.limit is not None:
            raise UsageError(
                f"group={shown(self.group)} and limit= do not go together: the tasks of a group "
                "never run; what the aggregator makes of them does"
            )
        if self.on_conflict == "after":
            raise UsageError(
                f"group={shown(self.group)} and on_conflict='after' do not go together: a task "
                "of a group never runs, so nothing can run after it"
            )

    def _check_headers(self) -> None:
        if not isinstance(self.headers, Mapping):
            raise UsageError(f"headers={shown(self.headers)} must map text to text")
        for key, text in self.headers.items():
            if not isinstance(key, str) or not isinstance(text, str):
                raise UsageError(f"headers={{{shown(key)}: {shown(text)}}} must map text to text")
            if key.startswith("nbq:"):
                raise UsageError(
                    f"headers={{{shown(key)}: …}}: names that begin with 'nbq:' are reserved"
                )

    def check_whole(self) -> None:
        """Raise `UsageError` if the options contradict each other."""
        if self.on_conflict != "raise" and self.unique is None:
            raise UsageError(
                f"on_conflict={shown(self.on_conflict)} is for unique tasks: set unique= too, or "
                "leave it out"
            )

    def check_call(self) -> None:
        """Raise `UsageError` for options that a call cannot have."""
        if self.group is not None:
            raise UsageError(
                f"group={shown(self.group)} is for messages that an aggregator combines: use "
                "q.enqueue, or leave it out"
            )

    def merged(self, changes: Mapping[str, Any]) -> TaskOptions:
        """Return these options with ``changes`` applied. Raises `UsageError` for unknown ones."""
        known = [f.name for f in fields(self)]
        for name in changes:
            if name not in known:
                raise UsageError(f"{shown(name)} is no option of a task{known_names(name, known)}")
        # ``delay`` and ``at`` are alternatives: the one set last wins.
        if "delay" in changes and "at" not in changes and self.at is not None:
            changes = {**changes, "at": None}
        if "at" in changes and "delay" not in changes and self.delay is not None:
            changes = {**changes, "delay": None}
        return replace(self, **changes)


def _check_choice(name: str, value: object, *choices: str) -> None:
    if value not in choices:
        raise not_among(name, value, choices)


def check_seed(seed: object) -> int:
    """Return ``seed`` as an int. Raises `UsageError` if it is invalid."""
    # NumPy's integers have __index__, its other numbers do not.
    try:
        number = -1 if isinstance(seed, bool) else index(seed)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < 0:
        raise UsageError(f"seed={shown(seed)} must be a whole number, 0 or more")
    if number.bit_length() > 8 * LONGEST_SEED:
        raise UsageError(
            f"seed= has {number.bit_length()} bits: it can have at most {8 * LONGEST_SEED}"
        )
    return number


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        kind = type(value).__name__
        raise UsageError(f"{name}={shown(value)} is of the type {kind}: it must be text")
    if not value.strip():
        raise UsageError(f"{name}={shown(value)} is empty: it must be text")
    is_id = name == "task_id"
    longest = LONGEST_NAME if name == "name" else None
    fault = fault_of(value, inner_space=not is_id, only_printable=is_id, longest=longest)
    if fault is not None:
        way_out = "use letters, digits and signs" if is_id else "leave that out"
        raise UsageError(f"{name}={shown(value)} {fault}: {way_out}")


def _check_moment(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, datetime):
        raise UsageError(f"{name}={shown(value)} must be a datetime")
    if value.tzinfo is None:
        raise UsageError(
            f"{name}={shown(value)} has no time zone: write {name}=datetime(…, "
            "tzinfo=timezone.utc), "
            "or call .astimezone() on it for local time"
        )
