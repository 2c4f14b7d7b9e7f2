"""How a worker is set up, checked as soon as it is said."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from nbqueue.broker.commands.aggregation import MOST_MEMBERS, Ripeness
from nbqueue.checks import INT32, is_whole
from nbqueue.durations import Duration, parse_duration
from nbqueue.errors import UsageError
from nbqueue.printable import shown
from nbqueue.requirements import THIS_PYTHON
from nbqueue.store.url import parse_url
from nbqueue.wire.keys import check_queue_name

PROCESS, THREAD = "process", "thread"
WAIT_SECONDS = 60.0
LOG_LEVELS = ("debug", "info", "warning", "error")


MOST_SLOTS = 50_000
"""The most tasks of one worker at once: the permit of each is a byte in a pipe."""


def weighted(queues: Mapping[str, int] | Sequence[str]) -> dict[str, int]:
    """Return names of queues with their weights, checked. Names alone have the weight 1."""
    if isinstance(queues, Mapping):
        found = dict(queues)
    elif isinstance(queues, Iterable) and not isinstance(queues, str | bytes):
        found = dict.fromkeys(map(check_queue_name, queues), 1)
    else:
        raise UsageError(
            f"queues={shown(queues)} must be names, such as ['default'], or names with weights, "
            "such as {'critical': 6, 'default': 3}"
        )
    if not found:
        raise UsageError("queues={} serves nothing: name a queue, such as {'default': 1}")
    for name, weight in found.items():
        check_queue_name(name)
        if not is_whole(weight, 1, INT32):
            raise UsageError(
                f"queues={{{shown(name)}: {shown(weight)}}}: a weight is a whole number, 1 or more"
            )
    return found


def _check_file(name: str, path: object) -> None:
    if not isinstance(path, str) or "\0" in path:
        raise UsageError(f"{name}={shown(path)} must be the path of a file, as text")
    try:
        is_there = Path(path).absolute().parent.is_dir()
    except OSError as error:
        raise UsageError(f"{name}={shown(path)} cannot be used: {error.strerror}") from None
    if not is_there:
        raise UsageError(f"{name}={shown(path)} is in no folder that exists")


@dataclass(frozen=True, repr=False)
class WorkerSettings:
    """The settings of a worker.

    url: the store; None for `nbqueue.connect`'s default.
    queues: names with their weights, or names alone; ``{"default": 1}``.
    concurrency: how many tasks run at once; the number of CPUs.
    executor: ``"process"`` (each ordinary function in a process of its own) or ``"thread"``
        (threads of one process, for work that mostly waits). Coroutine functions always share
        one event loop.
    strict_priority: a queue is served only while all of greater weight are empty.
    shutdown_timeout: how long running tasks may go on when the worker is told to end (a
        duration); 8 s.
    kill_grace: how long after its time-out a task may take to end by itself before its executor
        is killed (a duration); 5 s.
    lease: how long a task stays ours without a sign of life (a duration); 30 s, as Asynq's.
    answer_timeout: how long the store may leave a command unanswered before its connections are
        dropped and opened again (a duration); 30 s.
    wait: how long a worker that starts waits for a store that is away (a duration); None: a minute
        for one that runs in this process, and not at all for one that `Worker.start` starts.
    tasks_per_executor: an executor is replaced after this many tasks; None: never.
    memory_per_executor: and when it once had this many bytes; None: never.
    burst: end when all queues are empty, and nothing is due within a second.
    group_grace_period: how long an aggregation group must have got no task to be aggregated (a
        duration); 1 min.
    group_max_delay: how long its oldest task may wait (a duration); None: any time.
    group_max_size: how many tasks are aggregated without waiting, and at most; 0: any number.
    idle_timeout: end after so long without a task (a duration); None: never.
    owner: the id of a process with which the worker ends; None: with none.
    health_file: a file that is touched every 5 s while the worker is well and the store answers.
    health_check_interval: how often a health check is called (a duration); 0: never.
    log_level: of a started worker: ``"debug"``, ``"info"``, ``"warning"`` or ``"error"``.
    scheduler: whether it fires the schedules of its queues when they are due, as any number of
        workers may; True.
    service: the code of the owner's handlers and hooks, for the executors.
    providers: the names of the owner's providers, and how often each is asked, in seconds.
    patterns: which messages these handlers serve, and whether each is async.
    python: the version of Python that it says it runs, and whose calls it takes; tests set it.
    aggregates: whether there is an aggregator among them, and `aggregator_is_async` whether it is.
    """

    url: str | None = None
    queues: Mapping[str, int] = field(default_factory=lambda: {"default": 1})
    concurrency: int = field(default_factory=lambda: os.cpu_count() or 1)
    executor: str = PROCESS
    strict_priority: bool = False
    shutdown_timeout: Duration = 8.0
    kill_grace: Duration = 5.0
    lease: Duration = 30.0
    answer_timeout: Duration = 30.0
    wait: Duration | None = None
    tasks_per_executor: int | None = None
    memory_per_executor: int | None = None
    health_file: str | None = None
    health_check_interval: Duration = 0.0
    log_level: str = "info"
    service: bytes = b""
    patterns: Sequence[tuple[str, bool]] = ()
    burst: bool = False
    group_grace_period: Duration = 60.0
    group_max_delay: Duration | None = None
    group_max_size: int = 0
    aggregates: bool = False
    aggregator_is_async: bool = False
    idle_timeout: Duration | None = None
    owner: int | None = None
    scheduler: bool = True
    providers: Sequence[tuple[str, float]] = ()
    python: str = THIS_PYTHON

    def __repr__(self) -> str:
        """Show the settings without the password of the store and without code."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        del values["service"]
        if self.url is not None:
            values["url"] = parse_url(self.url).redacted
        said = (f"{name}={shown(value)}" for name, value in values.items())
        return f"WorkerSettings({', '.join(said)})"

    def __post_init__(self) -> None:
        if self.url is not None:
            parse_url(self.url)
        object.__setattr__(self, "queues", weighted(self.queues))
        if not is_whole(self.concurrency, 1, MOST_SLOTS):
            raise UsageError(
                f"concurrency={shown(self.concurrency)} must be a whole number of 1 or more, and "
                f"at most {MOST_SLOTS:,}"
            )
        if self.executor not in (PROCESS, THREAD):
            raise UsageError(f"executor={shown(self.executor)} must be 'process' or 'thread'")
        if self.health_file is not None:
            _check_file("health_file", self.health_file)
        if self.log_level not in LOG_LEVELS:
            raise UsageError(
                f"log_level={shown(self.log_level)} must be one of {', '.join(LOG_LEVELS)}"
            )
        self._check_durations()
        for name in ("scheduler", "strict_priority", "burst"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name}={shown(getattr(self, name))} must be True or False")
        for name in ("tasks_per_executor", "memory_per_executor", "owner"):
            value = getattr(self, name)
            if value is not None and not is_whole(value, 1, 2**63 - 1):
                raise UsageError(f"{name}={shown(value)} must be 1 or more, or None")
        self._check_groups()

    def _check_durations(self) -> None:
        for name in ("shutdown_timeout", "kill_grace", "lease", "health_check_interval"):
            seconds = parse_duration(getattr(self, name), name)
            if name == "lease" and seconds < 1:
                raise UsageError(f"lease={shown(self.lease)} must be 1 s or more")
            object.__setattr__(self, name, seconds)
        if parse_duration(self.answer_timeout, "answer_timeout") < 1:
            raise UsageError(f"answer_timeout={shown(self.answer_timeout)} must be 1 s or more")
        if self.wait is not None:
            object.__setattr__(self, "wait", parse_duration(self.wait, "wait"))
        if self.idle_timeout is not None:
            idle = parse_duration(self.idle_timeout, "idle_timeout")
            object.__setattr__(self, "idle_timeout", idle)

    def _check_groups(self) -> None:
        grace = parse_duration(self.group_grace_period, "group_grace_period")
        if grace < 1:
            raise UsageError(
                f"group_grace_period={shown(self.group_grace_period)} must be 1 s or more"
            )
        object.__setattr__(self, "group_grace_period", grace)
        if self.group_max_delay is not None:
            delay = parse_duration(self.group_max_delay, "group_max_delay")
            if delay <= 0:
                raise UsageError(
                    f"group_max_delay={shown(self.group_max_delay)} must be more than 0, or None"
                )
            object.__setattr__(self, "group_max_delay", delay)
        size = self.group_max_size
        if not is_whole(size, 0, MOST_MEMBERS):
            raise UsageError(
                f"group_max_size={shown(size)} must be a number from 0 to {MOST_MEMBERS}"
            )

    @property
    def ripeness(self) -> Ripeness:
        """When an aggregation group is ripe."""
        delay = 0.0 if self.group_max_delay is None else parse_duration(self.group_max_delay)
        return Ripeness(
            round(parse_duration(self.group_grace_period) * 1000),
            math.ceil(delay * 1000),
            self.group_max_size,
        )

    @property
    def lease_seconds(self) -> float:
        return parse_duration(self.lease)

    @property
    def answer_seconds(self) -> float:
        return parse_duration(self.answer_timeout)

    @property
    def wait_seconds(self) -> float:
        return WAIT_SECONDS if self.wait is None else parse_duration(self.wait)

    @property
    def health_check_seconds(self) -> float:
        return parse_duration(self.health_check_interval)

    @property
    def kill_grace_seconds(self) -> float:
        return parse_duration(self.kill_grace)

    @property
    def shutdown_seconds(self) -> float:
        return parse_duration(self.shutdown_timeout)
