"""The types of `submit` and `map`, from which type checkers know a function's parameters.

A future may stand in place of the value that it gives. Functions of up to six positional arguments
are listed one by one; others are checked as a whole, without futures.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from nbqueue.durations import Duration

if TYPE_CHECKING:
    from nbqueue.client.futures.future import TaskFuture
    from nbqueue.client.futures.group import TaskGroup

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
A1 = TypeVar("A1")
A2 = TypeVar("A2")
A3 = TypeVar("A3")
A4 = TypeVar("A4")
A5 = TypeVar("A5")
A6 = TypeVar("A6")
Coro = Coroutine[Any, Any, T]


class Argument(Protocol[T_co]):
    """A handle in place of a value: a `TaskFuture`, or a `TaskGroup` in place of a list."""

    def _as_argument(self) -> T_co: ...


class SubmitMethod(Protocol):
    """The type of `Client.submit`."""

    @overload
    def __call__(
        self,
        fn: Callable[[A1], Coro[T]],
        a1: A1 | Argument[A1],
        /,
    ) -> TaskFuture[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1], T],
        a1: A1 | Argument[A1],
        /,
    ) -> TaskFuture[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2], Coro[T]],
        a1: A1 | Argument[A1],
        a2: A2 | Argument[A2],
        /,
    ) -> TaskFuture[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2], T],
        a1: A1 | Argument[A1],
        a2: A2 | Argument[A2],
        /,
    ) -> TaskFuture[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2, A3], Coro[T]],
        a1: A1 | Argument[A1],
        a2: A2 | Argument[A2],
        a3: A3 | Argument[A3],
        /,
    ) -> TaskFuture[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2, A3], T],
        a1: A1 | Argument[A1],
        a2: A2 | Argument[A2],
        a3: A3 | Argument[A3],
        /,
    ) -> TaskFuture[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2, A3, A4], Coro[T]],
        a1: A1 | Argument[A1],
        a2: A2 | Argument[A2],
        a3: A3 | Argument[A3],
        a4: A4 | Argument[A4],
        /,
    ) -> TaskFuture[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2, A3, A4], T],
        a1: A1 | Argument[A1],
        a2: A2 | Argument[A2],
        a3: A3 | Argument[A3],
        a4: A4 | Argument[A4],
        /,
    ) -> TaskFuture[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2, A3, A4, A5], Coro[T]],
        a1: A1 | Argument[A1],
        a2: A2 | Argument[A2],
        a3: A3 | Argument[A3],
        a4: A4 | Argument[A4],
        a5: A5 | Argument[A5],
        /,
    ) -> TaskFuture[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2, A3, A4, A5], T],
        a1: A1 | Argument[A1],
        a2: A2 | Argument[A2],
        a3: A3 | Argument[A3],
        a4: A4 | Argument[A4],
        a5: A5 | Argument[A5],
        /,
    ) -> TaskFuture[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2, A3, A4, A5, A6], Coro[T]],
        a1: A1 | Argument[A1],
        a2: A2 | Argument[A2],
        a3: A3 | Argument[A3],
        a4: A4 | Argument[A4],
        a5: A5 | Argument[A5],
        a6: A6 | Argument[A6],
        /,
    ) -> TaskFuture[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2, A3, A4, A5, A6], T],
        a1: A1 | Argument[A1],
        a2: A2 | Argument[A2],
        a3: A3 | Argument[A3],
        a4: A4 | Argument[A4],
        a5: A5 | Argument[A5],
        a6: A6 | Argument[A6],
        /,
    ) -> TaskFuture[T]: ...
    @overload
    def __call__(
        self, fn: Callable[P, Coro[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> TaskFuture[T]: ...
    @overload
    def __call__(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> TaskFuture[T]: ...


class MapMethod(Protocol):
    """The type of `Client.map`."""

    @overload
    def __call__(
        self,
        fn: Callable[[A1], Coro[T]],
        a1: Iterable[A1 | Argument[A1]],
        /,
        *,
        timeout: Duration | None = None,
        chunksize: int = 1,
    ) -> TaskGroup[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1], T],
        a1: Iterable[A1 | Argument[A1]],
        /,
        *,
        timeout: Duration | None = None,
        chunksize: int = 1,
    ) -> TaskGroup[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2], Coro[T]],
        a1: Iterable[A1 | Argument[A1]],
        a2: Iterable[A2 | Argument[A2]],
        /,
        *,
        timeout: Duration | None = None,
        chunksize: int = 1,
    ) -> TaskGroup[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2], T],
        a1: Iterable[A1 | Argument[A1]],
        a2: Iterable[A2 | Argument[A2]],
        /,
        *,
        timeout: Duration | None = None,
        chunksize: int = 1,
    ) -> TaskGroup[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2, A3], Coro[T]],
        a1: Iterable[A1 | Argument[A1]],
        a2: Iterable[A2 | Argument[A2]],
        a3: Iterable[A3 | Argument[A3]],
        /,
        *,
        timeout: Duration | None = None,
        chunksize: int = 1,
    ) -> TaskGroup[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2, A3], T],
        a1: Iterable[A1 | Argument[A1]],
        a2: Iterable[A2 | Argument[A2]],
        a3: Iterable[A3 | Argument[A3]],
        /,
        *,
        timeout: Duration | None = None,
        chunksize: int = 1,
    ) -> TaskGroup[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2, A3, A4], Coro[T]],
        a1: Iterable[A1 | Argument[A1]],
        a2: Iterable[A2 | Argument[A2]],
        a3: Iterable[A3 | Argument[A3]],
        a4: Iterable[A4 | Argument[A4]],
        /,
        *,
        timeout: Duration | None = None,
        chunksize: int = 1,
    ) -> TaskGroup[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A1, A2, A3, A4], T],
        a1: Iterable[A1 | Argument[A1]],
        a2: Iterable[A2 | Argument[A2]],
        a3: Iterable[A3 | Argument[A3]],
        a4: Iterable[A4 | Argument[A4]],
        /,
        *,
        timeout: Duration | None = None,
        chunksize: int = 1,
    ) -> TaskGroup[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., Coro[T]],
        a1: Iterable[Any],
        a2: Iterable[Any],
        a3: Iterable[Any],
        a4: Iterable[Any],
        a5: Iterable[Any],
        /,
        *more: Iterable[Any],
        timeout: Duration | None = None,
        chunksize: int = 1,
    ) -> TaskGroup[T]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., T],
        a1: Iterable[Any],
        a2: Iterable[Any],
        a3: Iterable[Any],
        a4: Iterable[Any],
        a5: Iterable[Any],
        /,
        *more: Iterable[Any],
        timeout: Duration | None = None,
        chunksize: int = 1,
    ) -> TaskGroup[T]: ...


def typed_submit(method: Callable[..., Any]) -> SubmitMethod:
    """Give a method the type of `SubmitMethod`. Changes nothing else."""
    return method


def typed_map(method: Callable[..., Any]) -> MapMethod:
    """Give a method the type of `MapMethod`. Changes nothing else."""
    return method
