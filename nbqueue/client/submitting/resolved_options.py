"""Options of tasks, checked and complete, in the units of the wire."""

from __future__ import annotations

import math
from typing import NamedTuple

from nbqueue.calls import payloads
from nbqueue.clock import to_ms
from nbqueue.durations import Duration, parse_duration
from nbqueue.errors import UsageError
from nbqueue.options import TaskOptions, check_seed
from nbqueue.printable import shown
from nbqueue.tasks.retry_policy import make_policy
from nbqueue.wire.messages import FAR_TIMEOUT, TaskMessage

RETENTION = 86_400.0
"""Seconds for which the result of a call is kept by default."""

_MOST_SECONDS = FAR_TIMEOUT


class Defaults(NamedTuple):
    """Values of options that are left out. Times are in seconds."""

    retry: int
    timeout: int
    retention: float


CALL = Defaults(retry=0, timeout=FAR_TIMEOUT, retention=RETENTION)


class ResolvedOptions:
    """Task options in the units of the wire.

    Times are whole seconds, rounded so that no task ends early. Raises `UsageError`.
    """

    def __init__(self, options: TaskOptions, defaults: Defaults = CALL) -> None:
        self.options = options
        policy = make_policy(options.retry_delay, options.retry_on)
        self.policy = None if policy.is_empty else policy
        self.retention = _seconds("retention", options.retention, defaults.retention)
        self.unique_ms = (
            None
            if options.unique is None
            else round(_seconds("unique", options.unique, 0.0) * 1000)
        )
        self.seed = None if options.seed is None else check_seed(options.seed)
        self.delay = _seconds("delay", options.delay, 0.0)
        timeout_ms = math.ceil(round(_seconds("timeout", options.timeout, 0.0) * 1000, 3))
        deadline_ms = 0 if options.deadline is None else to_ms(options.deadline)
        self.limits = payloads.finer_timeouts(timeout_ms, deadline_ms)
        deadline = -(-deadline_ms // 1000)
        if options.timeout is None:
            # Without both Asynq would end a task after half an hour, so "none" is a far one.
            timeout = 0 if deadline else defaults.timeout
        else:
            timeout = -(-timeout_ms // 1000)
            if timeout == 0:
                raise UsageError(
                    f"timeout={shown(options.timeout)} leaves no time to run: leave it out for none"
                )
        try:
            self.message = TaskMessage(
                queue=options.queue,
                retry=defaults.retry if options.retry is None else options.retry,
                timeout=timeout,
                deadline=deadline,
                retention=math.ceil(self.retention),
                headers=dict(options.headers),
            )
        except ValueError as error:
            # Everything but the headers was checked before.
            raise UsageError(
                f"headers={shown(dict(options.headers))} cannot be sent: {error}"
            ) from None


def _seconds(name: str, value: Duration | None, default: float) -> float:
    if value is None:
        return default
    seconds = parse_duration(value, name)
    if seconds > _MOST_SECONDS:
        raise UsageError(f"{name}={shown(value)} is longer than a hundred years")
    return seconds
