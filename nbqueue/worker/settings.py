"""The options of a worker: names, types, defaults, checks, command-line spelling.

`Worker`, ``nbqueue worker`` and ``%nbqueue up`` all take them from here.
"""

# ruff: noqa: RUF009  (`_option` returns a field)

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nbqueue.broker.commands.aggregation import MOST_MEMBERS, Ripeness
from nbqueue.durations import Duration, parse_duration
from nbqueue.errors import UsageError
from nbqueue.printable import shown
from nbqueue.requirements import THIS_PYTHON
from nbqueue.sizes import Size, parse_size
from nbqueue.store.url import parse_url
from nbqueue.worker import option_checks as checks
from nbqueue.worker.option_checks import Check

PROCESS, THREAD = "process", "thread"
EXECUTORS = (PROCESS, THREAD)
LOG_LEVELS = ("debug", "info", "warning", "error")
WAIT_SECONDS = 60.0

Kind = Literal[
    "queues", "count", "duration", "size", "range", "file", "choice", "flag", "switch", "url"
]


class CommandLine(NamedTuple):
    """The spelling of an option on the command line of ``nbqueue worker``."""

    kind: Kind
    help: str
    flags: tuple[str, ...] = ()
    """Empty: the option's name with two dashes."""
    choices: tuple[str, ...] = ()
    default: str | None = None
    """The default there, if it is not the option's own."""
    metavar: str | None = None


def _option(default: Any, check: Check, command_line: CommandLine | None = None) -> Any:
    return field(default=default, metadata={"check": check, "command_line": command_line})


@dataclass(frozen=True, repr=False, kw_only=True)
class WorkerOptions:
    """The options of a worker that its owner chooses. Durations are in seconds.

    Raises `UsageError` for invalid values.
    """

    queues: Mapping[str, int] | Sequence[str] = _option(
        ("default",),
        checks.queues,
        CommandLine(
            "queues",
            "A queue to serve, and how often compared with the others; repeatable. "
            "[default: default]",
            ("-q", "--queue"),
            metavar="NAME[=WEIGHT]",
        ),
    )
    """Names with their weights, or names alone."""

    concurrency: int | None = _option(
        None,
        checks.slots,
        CommandLine(
            "count",
            "How many tasks run at once. [default: the number of CPUs]",
            ("-c", "--concurrency"),
        ),
    )
    """The number of tasks that run at once. None: the number of CPUs."""

    autoscale: str | Sequence[int] | None = _option(
        None,
        checks.executor_range,
        CommandLine(
            "range",
            "Start executors, and so run tasks at once, from MIN up to MAX when tasks wait, and "
            "end those that are idle for 30 s; instead of -c.",
            metavar="MIN..MAX",
        ),
    )
    """The least and the most executors, as ``"1..8"`` or ``(1, 8)``, instead of ``concurrency``.

    Executors start when tasks wait, and end when they were idle for 30 s. None: those that were
    started stay. Only with ``executor="process"``.
    """

    executor: str = _option(
        PROCESS,
        checks.one_of(EXECUTORS, "'process' or 'thread'"),
        CommandLine(
            "choice",
            "Run tasks in processes of their own, or in threads (for work that mostly waits).",
            choices=EXECUTORS,
        ),
    )
    """``"process"`` or ``"thread"``: where ordinary functions run.

    ``"process"``: each ordinary function runs in a process of its own; ``"thread"``: in threads of
    one process, for work that mostly waits. Coroutine functions always share an event loop.
    """

    url: str | None = field(
        default=None,
        kw_only=False,
        metadata={"check": checks.url, "command_line": CommandLine("url", "")},
    )
    """The store; None: the default of `nbqueue.connect`."""

    strict_priority: bool = _option(
        False,
        checks.boolean,
        CommandLine(
            "flag",
            "Serve a queue only while all queues of greater weight are empty.",
            ("--strict",),
        ),
    )
    """Serve a queue only while all queues of greater weight are empty."""

    shutdown_timeout: Duration = _option(
        8.0,
        checks.duration,
        CommandLine(
            "duration",
            "How long running tasks may go on after Ctrl-C or SIGTERM; then they go back to their "
            "queues.",
        ),
    )
    """The time for running tasks to end when the worker shuts down."""

    drain: bool = _option(
        False,
        checks.boolean,
        CommandLine(
            "flag",
            "After Ctrl-C or SIGTERM let running tasks end, however long they take.",
        ),
    )
    """Wait for running tasks when the worker shuts down, for longer than ``shutdown_timeout``."""

    kill_grace: Duration = _option(5.0, checks.duration)
    """The time for a timed-out task to end before its executor is killed."""

    lease: Duration = _option(
        30.0,
        checks.second_or_more,
        CommandLine(
            "duration",
            "After how long without a sign of life other workers take over its tasks.",
        ),
    )
    """The time that a task is this worker's without a sign of life.

    The default is Asynq's.
    """

    answer_timeout: Duration = _option(30.0, checks.second_or_more)
    """The time for an answer of the store before the worker reconnects."""

    wait: Duration | None = _option(
        None,
        checks.duration_or_none,
        CommandLine(
            "duration",
            "How long to wait at the start for a store that is away; 0: fail at once.",
            default="60s",
        ),
    )
    """The time that a starting worker waits for an unavailable store.

    None: a minute for a worker in this process, not at all for one that `Worker.start` starts.
    """

    tasks_per_executor: int | None = _option(
        None,
        checks.count,
        CommandLine("count", "Replace an executor after so many tasks. [default: never]"),
    )
    """The number of tasks after which an executor is replaced. None: no limit."""

    memory_per_executor: Size | None = _option(
        None,
        checks.size_or_none,
        CommandLine(
            "size",
            'Replace an executor once it has used so much memory, such as "512MB". '
            "[default: never]",
        ),
    )
    """How much memory an executor may have used before it is replaced: bytes, or text such as
    ``"2GB"``. None: any."""

    burst: bool = _option(
        False,
        checks.boolean,
        CommandLine("flag", "End when all queues are empty and nothing is due within a second."),
    )
    """End when all queues are empty and nothing is due within a second."""

    idle_timeout: Duration | None = _option(
        None,
        checks.duration_or_none,
        CommandLine(
            "duration",
            'End after so long without a task, such as "30m". [default: never]',
        ),
    )
    """The time without a task after which the worker ends. None: never."""

    owner: int | None = _option(None, checks.count)
    """The id of a process with which the worker ends, or None."""

    health_file: str | Path | None = _option(
        None,
        checks.file_path,
        CommandLine(
            "file",
            "A file that is touched every 5 s while the worker is well and the store answers.",
        ),
    )
    """A file touched every 5 s while the worker and the store respond."""

    health_check_interval: Duration = _option(15.0, checks.duration)
    """The interval between two calls of the health check."""

    group_grace_period: Duration = _option(60.0, checks.second_or_more)
    """The time without a new task before an aggregation group is aggregated."""

    group_max_delay: Duration | None = _option(None, checks.delay_or_none)
    """The maximum wait of a group's oldest task. None: no limit."""

    group_max_size: int = _option(0, checks.number_up_to(MOST_MEMBERS))
    """The maximum number of tasks aggregated; reaching it aggregates at once.

    0: no limit.
    """

    scheduler: bool = _option(
        True,
        checks.boolean,
        CommandLine(
            "switch",
            "Whether it fires the schedules of its queues when they are due.",
            ("--scheduler/--no-scheduler",),
        ),
    )
    """Fire the schedules of the worker's queues.

    Any number of workers may do so.
    """

    previews: bool = _option(
        True,
        checks.boolean,
        CommandLine(
            "switch",
            "Whether executors make previews of results, which cards and the panel show.",
            ("--previews/--no-previews",),
        ),
    )
    """Make previews of results such as DataFrames and figures, which cards and the panel show.

    ``NBQUEUE_PREVIEWS=0`` in the environment turns them off as well.
    """

    log_level: str = _option(
        "info",
        checks.one_of(LOG_LEVELS, f"one of {', '.join(LOG_LEVELS)}"),
        CommandLine(
            "choice",
            "debug: a line for each task; info: what a person wants to know.",
            choices=LOG_LEVELS,
        ),
    )
    """The level of a started worker's log: debug, info, warning or error."""

    def __post_init__(self) -> None:
        concurrency = self.concurrency
        for each in fields(self):
            check = each.metadata.get("check")
            if check is not None:
                object.__setattr__(self, each.name, check(each.name, getattr(self, each.name)))
        if self.autoscale is not None:
            self._scale(concurrency, self.autoscale[1])

    def _scale(self, concurrency: int | None, most: Any) -> None:
        """Take the concurrency from ``autoscale``, whose ``most`` executors run a task each."""
        if self.executor != PROCESS:
            raise UsageError(
                f"autoscale={shown(self.autoscale)} is for executor='process': with "
                f"executor={shown(self.executor)} there is one executor"
            )
        if concurrency not in (None, most):
            raise UsageError(
                f"concurrency={shown(concurrency)} and autoscale={shown(self.autoscale)}: leave "
                "concurrency out, as autoscale has the most tasks at once"
            )
        object.__setattr__(self, "concurrency", most)

    def __repr__(self) -> str:
        """Show the options without the password of the store and without code."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values.pop("service", None)
        if self.url is not None:
            values["url"] = parse_url(self.url).redacted
        text = ", ".join(f"{name}={shown(value)}" for name, value in values.items())
        return f"{type(self).__name__}({text})"


def command_line_options() -> Iterator[tuple[str, Any, CommandLine]]:
    """Yield the options that ``nbqueue worker`` has: name, default and spelling."""
    for each in fields(WorkerOptions):
        command_line = each.metadata["command_line"]
        if command_line is not None:
            yield each.name, each.default, command_line


@dataclass(frozen=True, repr=False, kw_only=True)
class WorkerSettings(WorkerOptions):
    """The options of a worker, and its owner's registrations. Can be made from JSON."""

    if TYPE_CHECKING:  # as the checks leave them
        queues: Mapping[str, int] = {}
        concurrency: int = 1
        autoscale: tuple[int, int] | None = None
        health_file: str | None = None

    service: bytes = b""
    """The code of the owner's handlers and hooks, for the executors."""

    patterns: Sequence[tuple[str, bool]] = ()
    """The messages that these handlers serve, and whether each handler is async."""

    providers: Sequence[tuple[str, float]] = ()
    """The names of the owner's providers, each with its interval in seconds."""

    aggregates: bool = False
    """True if the owner has an aggregator."""

    aggregator_is_async: bool = False
    """True if the aggregator is a coroutine function."""

    has_health_check: bool = False
    """True if the owner has a health check."""

    python: str = THIS_PYTHON
    """The version of Python whose calls the worker takes; tests set it."""

    @classmethod
    def of(cls, options: WorkerOptions) -> WorkerSettings:
        """Return settings with these options, and nothing registered."""
        return cls(**{each.name: getattr(options, each.name) for each in fields(WorkerOptions)})

    @property
    def least_executors(self) -> int:
        """The number of executors to start with, at most."""
        return self.concurrency if self.autoscale is None else self.autoscale[0]

    @property
    def makes_previews(self) -> bool:
        """Whether executors make previews of results."""
        return self.previews and os.environ.get("NBQUEUE_PREVIEWS") != "0"

    @property
    def ripeness(self) -> Ripeness:
        """The conditions for an aggregation group to be ripe."""
        delay = 0.0 if self.group_max_delay is None else parse_duration(self.group_max_delay)
        return Ripeness(
            round(parse_duration(self.group_grace_period) * 1000),
            math.ceil(delay * 1000),
            self.group_max_size,
        )

    @property
    def lease_seconds(self) -> float:
        """``lease`` in seconds."""
        return parse_duration(self.lease)

    @property
    def answer_seconds(self) -> float:
        """``answer_timeout`` in seconds."""
        return parse_duration(self.answer_timeout)

    @property
    def wait_seconds(self) -> float:
        """``wait`` in seconds; a minute if it is None."""
        return WAIT_SECONDS if self.wait is None else parse_duration(self.wait)

    @property
    def health_check_seconds(self) -> float:
        """``health_check_interval`` in seconds; 0 without a health check."""
        return parse_duration(self.health_check_interval) if self.has_health_check else 0.0

    @property
    def executor_bytes(self) -> int | None:
        """``memory_per_executor`` in bytes."""
        size = self.memory_per_executor
        return None if size is None else parse_size(size)

    @property
    def kill_grace_seconds(self) -> float:
        """``kill_grace`` in seconds."""
        return parse_duration(self.kill_grace)

    @property
    def shutdown_seconds(self) -> float:
        """``shutdown_timeout`` in seconds."""
        return parse_duration(self.shutdown_timeout)
