"""Registering a future or a group for tasks before they are written.

The end of a task may be announced before the store has confirmed the task itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from nbqueue.client.completion.awaited_tasks import Sink


class Registrar(Protocol):
    """The part of a `CompletionListener` that a registration needs."""

    def expect(self, queue: str, task_ids: Sequence[str], sink: Sink) -> int: ...

    def expect_named(self, queue: str, task_id: str, sink: Sink) -> int | None: ...

    def written(
        self, queue: str, task_ids: Sequence[str], connection: int, is_message: bool
    ) -> None: ...

    def forget(self, queue: str, task_ids: Sequence[str], sink: Sink) -> None: ...

    def end_missing(self, queue: str, task_id: str) -> None: ...


class Registration:
    """A context in which tasks are written. Without a call of `written` they are forgotten.

    >>> with Registration(listener, queue, ids, future) as registration:
    ...     broker.enqueue(request)
    ...     registration.written()
    """

    __slots__ = (
        "_connection",
        "_ids",
        "_is_message",
        "_is_written",
        "_listener",
        "_queue",
        "_sink",
    )

    def __init__(
        self,
        listener: Registrar,
        queue: str,
        task_ids: Sequence[str],
        sink: Sink,
        is_message: bool = False,
    ) -> None:
        """``sink`` gets the ends of the tasks. ``is_message``: programs in Go may handle them."""
        self._listener = listener
        self._queue = queue
        self._ids = task_ids
        self._sink = sink
        self._is_message = is_message
        self._is_written = False
        self._connection = 0

    def __enter__(self) -> Registration:
        try:
            self._connection = self._listener.expect(self._queue, self._ids, self._sink)
        except BaseException:
            self.__exit__()
            raise
        return self

    def written(self) -> None:
        """Note that the tasks are in the store."""
        self._listener.written(self._queue, self._ids, self._connection, self._is_message)
        self._is_written = True

    def __exit__(self, *error: object) -> None:
        if not self._is_written:
            self._listener.forget(self._queue, self._ids, self._sink)


class NamedRegistration(Registration):
    """The registration of one task whose id was chosen, so that another task may have it."""

    __slots__ = ("_refuse_existing",)

    def __init__(
        self,
        listener: Registrar,
        queue: str,
        task_ids: Sequence[str],
        sink: Sink,
        is_message: bool,
        refuse_existing: Callable[[str], None],
    ) -> None:
        """``refuse_existing`` raises an error if the store has the one task of ``task_ids``."""
        super().__init__(listener, queue, task_ids, sink, is_message)
        self._refuse_existing = refuse_existing

    def __enter__(self) -> Registration:
        listener, queue, [task_id] = self._listener, self._queue, self._ids
        try:
            while (connection := listener.expect_named(queue, task_id, self._sink)) is None:
                # A task of this id is awaited here. It is in the store, or will not end any more.
                self._refuse_existing(task_id)
                listener.end_missing(queue, task_id)
        except BaseException:
            self.__exit__()
            raise
        self._connection = connection
        return self
