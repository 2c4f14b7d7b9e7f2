"""Retry policies: whether and when a failed task is tried again.

Executors evaluate them.

A policy may hold functions of the user, so it is pickled with the code of a task or with a worker's
service, and only executors load it.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from nbqueue.durations import Duration, parse_duration
from nbqueue.errors import UsageError
from nbqueue.moved_modules import pickled_as
from nbqueue.printable import shown
from nbqueue.tasks.task import Task

DelayFunction = Callable[[int, BaseException, Task], Duration]


@pickled_as("nbqueue.executor.policy")
@dataclass(frozen=True)
class Exponential:
    """A delay that grows with each retry.

    It is ``first`` × ``factor`` for each retry, up to ``longest`` seconds.

    A random part of it, up to ``jitter``, is taken off, so that tasks that failed together are not
    tried again together.
    """

    first: float = 1.0
    longest: float = 600.0
    factor: float = 2.0
    jitter: float = 0.5

    def __call__(self, retried: int, error: BaseException, task: Task) -> float:
        full = min(self.first * self.factor ** min(retried, 200), self.longest)
        return full * (1.0 - self.jitter * random.random())


@pickled_as("nbqueue.executor.policy")
def exponential(
    first: Duration = 1.0, longest: Duration = 600.0, *, factor: float = 2.0, jitter: float = 0.5
) -> Exponential:
    """A retry delay for ``options(retry_delay=…)`` that grows with each retry.

    ``first`` and ``longest`` are durations. Up to the share ``jitter``, 0 to 1, is taken off at
    random. Raises `UsageError` for values that cannot be right.

    >>> q.options(retry=8, retry_delay=nbqueue.exponential("2s", "1h")).submit(fetch, url)
    """
    if not (_is_within(factor, 1, 1_000_000) and _is_within(jitter, 0, 1)):
        raise UsageError(
            f"factor={shown(factor)} must be 1 or more, and jitter={shown(jitter)} in 0 to 1"
        )
    return Exponential(
        parse_duration(first, "first"), parse_duration(longest, "longest"), factor, jitter
    )


def _is_within(value: object, low: float, high: float) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and low <= value <= high  # type: ignore[operator]


@pickled_as("nbqueue.executor.policy")
def asynq_delay(retried: int, error: BaseException, task: Task) -> float:
    """Return Asynq's own retry delay in seconds.

    n⁴ + 15 + r (n + 1), with a random r from 0 to 29.
    """
    return float(retried**4 + 15 + random.randrange(30) * (retried + 1))


@pickled_as("nbqueue.executor.policy")
@dataclass(frozen=True)
class Policy:
    """The rules for errors of a task.

    For parts that are None, the worker's defaults hold.

    delay: seconds, a list of them (the last one repeats), or a function of the number of retries
        so far, the error and the task.
    retry_on: only errors of these types are retried; others fail for good.
    is_failure: whether an error counts as a failure; others use up no retry.
    """

    delay: float | tuple[float, ...] | DelayFunction | None = None
    retry_on: tuple[type[BaseException], ...] | None = None
    is_failure: Callable[[BaseException], bool] | None = None

    @property
    def is_empty(self) -> bool:
        """True if no part is set."""
        return self.delay is None and self.retry_on is None and self.is_failure is None

    def over(self, default: Policy | None) -> Policy:
        """Return this policy, with ``default`` for the parts that are None."""
        if default is None:
            return self
        return Policy(
            default.delay if self.delay is None else self.delay,
            default.retry_on if self.retry_on is None else self.retry_on,
            default.is_failure if self.is_failure is None else self.is_failure,
        )

    def delay_for(self, retried: int, error: BaseException, task: Task) -> float | None:
        """Return the seconds before the next attempt; None: the worker's default.

        Raises whatever the delay's function raises, and `UsageError` if it returns no duration.
        """
        delay = self.delay
        if callable(delay):
            return parse_duration(delay(retried, error, task), "retry_delay")
        if isinstance(delay, tuple):
            return delay[min(retried, len(delay) - 1)]
        return delay


def make_policy(
    retry_delay: Duration | Sequence[Duration] | DelayFunction | None = None,
    retry_on: type[BaseException] | Sequence[type[BaseException]] | None = None,
    is_failure: Callable[[BaseException], bool] | None = None,
) -> Policy:
    """Return a `Policy` from options.

    Raises `UsageError` for values that cannot be right.
    """
    delay: Any
    if retry_delay is None or callable(retry_delay):
        delay = retry_delay
    elif isinstance(retry_delay, str | int | float | timedelta):
        delay = parse_duration(retry_delay, "retry_delay")
    elif isinstance(retry_delay, Sequence) and retry_delay and not isinstance(retry_delay, bytes):
        delay = tuple(parse_duration(each, "retry_delay") for each in retry_delay)
    else:
        raise UsageError(
            f"retry_delay={shown(retry_delay)} must be a duration, a list of them, or a function "
            "of (retries so far, error, task)"
        )
    types: tuple[Any, ...] | None = None
    if retry_on is not None:
        types = tuple(retry_on) if isinstance(retry_on, Sequence) else (retry_on,)
        if not types or not all(
            isinstance(t, type) and issubclass(t, BaseException) for t in types
        ):
            raise UsageError(f"retry_on={shown(retry_on)} must be types of exceptions")
    if is_failure is not None and not callable(is_failure):
        raise UsageError(f"is_failure={shown(is_failure)} must be a function of an exception")
    return Policy(delay, types, is_failure)


@pickled_as("nbqueue.executor.policy")
class WithPolicy:
    """A function with its policy: the code of a call that has one."""

    def __init__(self, fn: Callable[..., Any], policy: Policy) -> None:
        # Without its `__dict__`, which for a class has all its methods.
        functools.update_wrapper(self, fn, updated=())
        self.fn = fn
        self.policy = policy

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)
