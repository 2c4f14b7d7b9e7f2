"""Report the progress of a running task, with `progress` or tqdm's bars."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from nbqueue.executor.output.progress_values import Bar
from nbqueue.executor.output.task_reports import Reporting, running_task
from nbqueue.moved_modules import pickled_as

T = TypeVar("T")

_PAUSE = 0.05


@pickled_as("nbqueue.executor.progress")
class progress(Generic[T]):  # noqa: N801 (used like `range` and `tqdm`)
    """Iterate, and report how far the iteration is.

    ``total``: the number of items, if ``iterable`` has no length. ``desc``: a label. Bars may be
    nested. An asynchronous iterable is iterated with ``async for``. Outside a task it only
    iterates. `TaskFuture.progress` reads the progress.

    >>> for epoch in nbqueue.progress(range(3), desc="epochs"):
    ...     pass
    """

    def __init__(
        self,
        iterable: Iterable[T] | AsyncIterable[T],
        total: float | None = None,
        desc: str = "",
        unit: str = "it",
    ) -> None:
        self._iterable = iterable
        if total is None:
            try:
                total = len(iterable)  # type: ignore[arg-type]
            except (TypeError, AttributeError, NotImplementedError):
                total = None
        self._total = total
        self._desc = str(desc)
        self._unit = str(unit)

    def __len__(self) -> int:
        if self._total is None:
            raise TypeError("the number of items is unknown: pass total=…")
        return int(self._total)

    def __iter__(self) -> Iterator[T]:
        items = cast("Iterable[T]", self._iterable)
        task = running_task()
        if task is None:
            yield from items
            return
        bar = self._begin(task)
        n, shown_at = 0, time.monotonic()
        try:
            for item in items:
                yield item
                n += 1
                now = time.monotonic()
                if now - shown_at >= _PAUSE:
                    shown_at = now
                    bar.move(n)
                    task.progressed()
        finally:
            _close(task, bar, n)

    async def __aiter__(self) -> AsyncIterator[T]:
        items = cast("AsyncIterable[T]", self._iterable)
        task = running_task()
        if task is None:
            async for item in items:
                yield item
            return
        bar = self._begin(task)
        n, shown_at = 0, time.monotonic()
        try:
            async for item in items:
                yield item
                n += 1
                now = time.monotonic()
                if now - shown_at >= _PAUSE:
                    shown_at = now
                    bar.move(n)
                    task.progressed()
        finally:
            _close(task, bar, n)

    def _begin(self, task: Reporting) -> Bar:
        bar = Bar(self._desc, self._total, self._unit)
        task.bars.add(bar)
        task.progressed()
        return bar


def _close(task: Reporting, bar: Bar, n: int) -> None:
    bar.is_open = False
    bar.move(n)
    task.progressed()


# --- tqdm ----------------------------------------------------------------------------------------


class _Silence:
    """The file of a tqdm bar that is reported instead of drawn."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True  # bars that hide without a terminal are reported here


_BAR = "_nbqueue_bar"
_FILE_POSITION = 4


def patch_tqdm(module: ModuleType) -> None:
    """Make the bars of ``tqdm.std`` report to the task instead of drawing.

    Bars with a file of the user's own are left unchanged.
    """
    kind = module.tqdm
    begin, draw = kind.__init__, kind.display

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        task = running_task()
        file = args[_FILE_POSITION] if len(args) > _FILE_POSITION else kwargs.get("file")
        if task is not None and (file is None or file in (sys.stdout, sys.stderr)):
            setattr(self, _BAR, (task, Bar()))
            if len(args) > _FILE_POSITION:
                args = (*args[:_FILE_POSITION], _Silence(), *args[_FILE_POSITION + 1 :])
            else:
                kwargs["file"] = _Silence()
        begin(self, *args, **kwargs)

    def display(self: Any, msg: str | None = None, pos: int | None = None) -> Any:
        found = getattr(self, _BAR, None)
        if found is None:
            return draw(self, msg, pos)
        _show(self, *found, is_cleared=msg == "")
        return True

    kind.__init__, kind.display = init, display


def _show(shown: Any, task: Reporting, bar: Bar, *, is_cleared: bool) -> None:
    if is_cleared:
        bar.is_open = False
        task.bars.remove(bar)
    else:
        about = shown.format_dict
        elapsed = about["elapsed"]
        bar.desc = str(about["prefix"] or "").removesuffix(": ")
        bar.n, bar.total = about["n"], about["total"]
        bar.unit = str(about["unit"])
        done = about["n"] - (about.get("initial") or 0)
        bar.rate = about["rate"] or (done / elapsed if elapsed and done else None)
        bar.postfix = str(about["postfix"] or "")
        bar.is_open = not shown.disable  # `close` disables the bar first and shows it once more
        task.bars.show(bar)
    task.progressed()


def patch_tqdm_notebook(module: ModuleType) -> None:
    """Replace notebook bars by those of ``tqdm.std``: a task has no notebook."""
    from importlib import import_module

    std = import_module("tqdm.std")
    names: Any = module
    names.tqdm = names.tqdm_notebook = std.tqdm
    names.trange = names.tnrange = std.trange
