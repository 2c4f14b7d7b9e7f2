"""The futures of a task group: in order, and as their tasks end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from nbqueue.client.futures.future import TaskFuture
from nbqueue.client.live.display import awaited_shown

if TYPE_CHECKING:
    from nbqueue.client.futures.group import TaskGroup

T = TypeVar("T")


class Completions(Generic[T]):
    """Iterator over the futures of a group as their tasks end, for ``for`` and ``async for``.

    The time-out is for ``for``; with ``async for``, use `asyncio.timeout`.
    """

    def __init__(self, group: TaskGroup[T], until: float | None) -> None:
        self._group = group
        self._until = until
        self._given = 0
        self._since = time.monotonic()

    def __iter__(self) -> Completions[T]:
        return self

    def __next__(self) -> TaskFuture[T]:
        if self._given == len(self._group):
            raise StopIteration
        if not self._has_next():
            self._group._wait_until(self._has_next, self._until, self._since)
        return self._next()

    def __aiter__(self) -> Completions[T]:
        return self

    async def __anext__(self) -> TaskFuture[T]:
        if self._given == len(self._group):
            raise StopAsyncIteration
        group = self._group
        waiting = group._async_waiters.wait(group._changed, self._has_next)
        await awaited_shown(group, waiting, self._since)
        return self._next()

    def _has_next(self) -> bool:
        return self._given < len(self._group._state.ended)

    def _next(self) -> TaskFuture[T]:
        self._given += 1
        return self._group._future_at(self._group._state.ended[self._given - 1])


class Futures(Sequence[TaskFuture[T]]):
    """The futures of a group, each made when first asked for."""

    def __init__(self, group: TaskGroup[T]) -> None:
        self._group = group

    def __len__(self) -> int:
        return len(self._group)

    @overload
    def __getitem__(self, index: int) -> TaskFuture[T]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TaskFuture[T]]: ...
    def __getitem__(self, index: int | slice) -> TaskFuture[T] | Sequence[TaskFuture[T]]:
        if isinstance(index, slice):
            return [self._group._future_at(i) for i in range(len(self))[index]]
        try:
            position = range(len(self))[index]
        except IndexError:
            raise IndexError(f"there is no task {index}: the group has {len(self)}") from None
        return self._group._future_at(position)

    def __repr__(self) -> str:
        return f"<{len(self)} futures of {self._group!r}>"
