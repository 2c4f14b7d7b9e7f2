"""Functions that handle types of messages, matched by Asynq's rules.

A `HandlerService` holds everything that a worker's owner registered. It travels as one pickle to
the executors, and only they load it; the supervisor only knows its patterns.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nbqueue.errors import UsageError
from nbqueue.tasks.aggregation_group import Aggregator
from nbqueue.tasks.periodic import PROVIDER_TYPE, Provider, call_provider
from nbqueue.tasks.retry_policy import Policy
from nbqueue.tasks.task import Task

T = TypeVar("T")

Handler = Callable[[Task], Any]
Middleware = Callable[[Handler], Handler]


class HandlerPatterns(Generic[T]):
    """Values by pattern, found by a message's type.

    As in Asynq's ServeMux, an exact match goes first, then the longest pattern that is a prefix of
    the type, whatever character follows it.
    """

    def __init__(self) -> None:
        self._values: dict[str, T] = {}

    def add(self, pattern: str, value: T) -> None:
        """Add a pattern.

        Raises `UsageError` if it is blank or has a value already.
        """
        if not isinstance(pattern, str) or not pattern.strip():
            raise UsageError(f"pattern={pattern!r} is empty: name a type, or how types begin")
        if pattern in self._values:
            raise UsageError(f"pattern={pattern!r} has a handler already")
        self._values[pattern] = value

    def find(self, task_type: str) -> T | None:
        """Return the value of the pattern that serves ``task_type``, or None."""
        found = self._values.get(task_type)
        if found is not None:
            return found
        matching = [pattern for pattern in self._values if task_type.startswith(pattern)]
        return self._values[max(matching, key=len)] if matching else None

    def items(self) -> list[tuple[str, T]]:
        """Return patterns with their values."""
        return list(self._values.items())

    def __len__(self) -> int:
        return len(self._values)


@dataclass
class HandlerService:
    """Everything that a worker's owner registered for its executors.

    ``on_start`` and ``on_stop`` run once in each executor, before its first task and when it ends;
    ``on_error(task, error)`` runs after each attempt that failed. ``health_check(error)`` runs in a
    process of its own, at intervals.
    """

    handlers: HandlerPatterns[Handler] = field(default_factory=HandlerPatterns)
    middleware: list[Middleware] = field(default_factory=list)
    on_start: list[Callable[[], Any]] = field(default_factory=list)
    on_stop: list[Callable[[], Any]] = field(default_factory=list)
    on_error: list[Callable[[Task, BaseException], Any]] = field(default_factory=list)
    policy: Policy = field(default_factory=Policy)
    aggregator: Aggregator | None = None
    health_check: Callable[[Exception | None], Any] | None = None
    providers: dict[str, Provider] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """True if nothing was registered."""
        hooks = (self.middleware, self.on_start, self.on_stop, self.on_error, self.providers)
        if self.aggregator is not None or self.health_check is not None:
            return False
        return not (len(self.handlers) or any(hooks)) and self.policy.is_empty

    def handler(self, task_type: str) -> Handler:
        """Return the handler of ``task_type``, wrapped in the middleware.

        Raises `LookupError` if there is none, which the supervisor has ruled out.
        """
        provider = self.providers.get(task_type.removeprefix(PROVIDER_TYPE))
        if provider is not None and task_type.startswith(PROVIDER_TYPE):
            return lambda task: call_provider(provider)
        found = self.handlers.find(task_type)
        if found is None:
            raise LookupError(f'handler not found for task "{task_type}"')
        return self.wrapped(found)

    def wrapped(self, handler: Handler) -> Handler:
        """Return ``handler`` wrapped in the middleware, the first registered outermost."""
        return functools.reduce(lambda inner, outer: outer(inner), self.middleware[::-1], handler)

    def __call__(self) -> HandlerService:
        """Return itself: only callables travel as code."""
        return self


def is_async(handler: Callable[..., Any]) -> bool:
    """Return whether calling ``handler`` returns a coroutine."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004
    )


def encode_result(value: object) -> bytes:
    """Encode the return value of a message handler.

    Bytes stay as they are, None is empty, other values become JSON.

    Raises `TypeError` or `ValueError` for values that JSON cannot express.
    """
    if value is None:
        return b""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
