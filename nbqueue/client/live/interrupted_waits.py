"""Say that tasks go on after Ctrl-C or the stop button ended a wait for them."""

from __future__ import annotations

import sys
from typing import Protocol

from nbqueue.printable import printable


class Interruptible(Protocol):
    """Something that is waited for, and can be found again."""

    def _goes_on(self) -> str:
        """Say that the tasks go on, and how to find and to cancel them."""


def task_goes_on(title: str, task_id: str) -> str:
    """Say that one task goes on, and how to find and to cancel it."""
    return f'task {title} goes on: q.get("{task_id}") finds it again, its cancel() ends it'


def group_goes_on(title: str, name: str) -> str:
    """Say that the tasks of a group go on, and how to find and to cancel them."""
    return f'the tasks of {title} go on: q.group("{name}") finds them again, its cancel() ends them'


def explain_interrupt(interrupt: BaseException, handle: Interruptible, *, is_quiet: bool) -> None:
    """Have an interrupt shown as two lines in IPython; elsewhere write a line to standard error.

    ``is_quiet`` leaves out the line.
    """
    goes_on = printable(handle._goes_on())
    name = type(interrupt).__name__
    # IPython asks exceptions for this method. The frames of a wait explain nothing.
    interrupt._render_traceback_ = lambda: [  # type: ignore[attr-defined]
        f"{name}: the wait was interrupted",
        goes_on,
    ]
    ipython = sys.modules.get("IPython")
    in_shell = ipython is not None and ipython.get_ipython() is not None
    if not in_shell and not is_quiet and sys.stderr is not None:
        sys.stderr.write(f"the wait was interrupted; {goes_on}\n")
