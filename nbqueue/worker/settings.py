"""How a worker is set up, checked as soon as it is said."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nbqueue.durations import Duration, parse_duration
from nbqueue.errors import UsageError
from nbqueue.wire.keys import check_queue_name

PROCESS, THREAD = "process", "thread"


@dataclass(frozen=True)
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
    tasks_per_executor: an executor is replaced after this many tasks; None: never.
    memory_per_executor: and when it once had this many bytes; None: never.
    burst: end when all queues are empty, and nothing is due.
    service: the code of the owner's handlers and hooks, for the executors.
    patterns: which messages these handlers serve, and whether each is async.
    """

    url: str | None = None
    queues: Mapping[str, int] = field(default_factory=lambda: {"default": 1})
    concurrency: int = field(default_factory=lambda: os.cpu_count() or 1)
    executor: str = PROCESS
    strict_priority: bool = False
    shutdown_timeout: Duration = 8.0
    kill_grace: Duration = 5.0
    lease: Duration = 30.0
    tasks_per_executor: int | None = None
    memory_per_executor: int | None = None
    service: bytes = b""
    patterns: Sequence[tuple[str, bool]] = ()
    burst: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.queues, Mapping):
            object.__setattr__(self, "queues", dict.fromkeys(self.queues, 1))
        if not self.queues:
            raise UsageError("queues={} serves nothing: name a queue, such as {'default': 1}")
        for name, weight in self.queues.items():
            check_queue_name(name)
            if isinstance(weight, bool) or not isinstance(weight, int) or weight < 1:
                raise UsageError(f"queues={{{name!r}: {weight!r}}}: a weight is 1 or more")
        if isinstance(self.concurrency, bool) or not isinstance(self.concurrency, int):
            raise UsageError(f"concurrency={self.concurrency!r} must be a whole number")
        if self.concurrency < 1:
            raise UsageError(f"concurrency={self.concurrency!r} must be 1 or more")
        if self.executor not in (PROCESS, THREAD):
            raise UsageError(f"executor={self.executor!r} must be 'process' or 'thread'")
        for name in ("shutdown_timeout", "kill_grace", "lease"):
            seconds = parse_duration(getattr(self, name), name)
            if name == "lease" and seconds < 1:
                raise UsageError(f"lease={self.lease!r} must be 1 s or more")
            object.__setattr__(self, name, seconds)
        for name in ("tasks_per_executor", "memory_per_executor"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UsageError(f"{name}={value!r} must be 1 or more, or None")

    @property
    def lease_seconds(self) -> float:
        return parse_duration(self.lease)

    @property
    def kill_grace_seconds(self) -> float:
        return parse_duration(self.kill_grace)

    @property
    def shutdown_seconds(self) -> float:
        return parse_duration(self.shutdown_timeout)
