"""Capture what a task prints, logs, warns of and displays.

Only for executor processes: `install` changes ``sys.stdout`` and its like. Text from outside any
task goes to the worker's log, and so does text that child processes and C libraries write to the
file descriptors. A task without output costs nothing.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import warnings
from typing import Any, TextIO

from nbqueue.executor import pipe
from nbqueue.executor.output import displays
from nbqueue.executor.output.import_hooks import ImportHooks
from nbqueue.executor.output.progress import patch_tqdm, patch_tqdm_notebook
from nbqueue.executor.output.task_reports import STARTED_BY, on_begin, running_task, started_by


class TaskStream(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr``, which finds the task that writes."""

    def __init__(self, kind: int, original: TextIO) -> None:
        super().__init__()
        self._kind = kind
        self._original = original
        self._buffer = _Bytes(self)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        task = running_task()
        if task is None:
            return self._original.write(text)
        if text:
            task.write(self._kind, text.encode("utf-8", "replace"))
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        task = running_task()
        if task is None:
            self._original.write(data.decode("utf-8", "replace"))
        elif data:
            task.write(self._kind, data)

    def flush(self) -> None:
        if running_task() is None:
            self._original.flush()

    def fileno(self) -> int:
        return self._original.fileno()

    def isatty(self) -> bool:
        return False

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Do nothing: the next task needs the stream."""

    def reconfigure(self, **settings: Any) -> None:
        """Do nothing: captured text is always UTF-8."""

    @property
    def buffer(self) -> _Bytes:
        return self._buffer

    @property
    def name(self) -> str:
        return "<stdout>" if self._kind == pipe.STDOUT else "<stderr>"

    @property
    def mode(self) -> str:
        return "w"

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "replace"


class _Bytes(io.RawIOBase):
    """``sys.stdout.buffer``."""

    def __init__(self, stream: TaskStream) -> None:
        super().__init__()
        self._stream = stream

    def write(self, data: Any) -> int:
        copied = bytes(data)
        self._stream.write_bytes(copied)
        return len(copied)

    def flush(self) -> None:
        self._stream.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def close(self) -> None:
        """Do nothing, like `TaskStream.close`."""


class _Records(logging.Handler):
    """Replaces ``logging.lastResort``, for tasks that configure no handler.

    Handlers that a task configures write to the captured streams on their own, and this one is then
    not used: no record is captured twice.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


def install() -> None:
    """Start capturing."""
    sys.stdout = TaskStream(pipe.STDOUT, sys.stdout)
    sys.stderr = TaskStream(pipe.STDERR, sys.stderr)
    _take_records()
    _take_warnings()
    _mark_threads()
    displays.add_builtin()
    if os.environ.get("MPLBACKEND", "module://").startswith("module://"):
        # A notebook's backend, inherited from its kernel, needs that kernel.
        os.environ["MPLBACKEND"] = "Agg"
    ImportHooks(
        {
            "tqdm.std": patch_tqdm,
            "tqdm.notebook": patch_tqdm_notebook,
            "IPython.core.display_functions": displays.patch_ipython,
            "matplotlib.pyplot": displays.patch_pyplot,
        }
    ).install()


def _take_records() -> None:
    records = _Records(logging.INFO)
    records.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.lastResort = records
    logging.getLogger().setLevel(logging.INFO)


def _take_warnings() -> None:
    """Show each task all warnings, including those of earlier tasks."""
    show = warnings.showwarning
    seen_by: list[object] = []

    def show_again(*args: Any, **kwargs: Any) -> None:
        show(*args, **kwargs)
        seen_by[:] = [started_by()]
        if begin not in on_begin:
            on_begin.append(begin)

    def begin() -> None:
        if seen_by[0] is not started_by():
            on_begin.remove(begin)
            with warnings.catch_warnings():
                pass  # clears the record of warnings that were already shown

    warnings.showwarning = show_again


def _mark_threads() -> None:
    """Record in each thread the task that started it.

    Threads do not inherit the context of the task.
    """
    start = threading.Thread.start

    def marked(self: threading.Thread) -> None:
        task = started_by()
        if task is not None:
            setattr(self, STARTED_BY, task)
        start(self)

    threading.Thread.start = marked  # type: ignore[method-assign]
