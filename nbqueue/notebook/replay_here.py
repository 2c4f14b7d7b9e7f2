"""Running the call of a failed task in the kernel, for ``%debug``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from nbqueue.calls.exceptions import error_text
from nbqueue.errors import NbqueueError
from nbqueue.notebook.live_views import kernel_shell
from nbqueue.views.call_text import value_text

if TYPE_CHECKING:
    from nbqueue.client.futures.future import TaskFuture


def replay_here(future: TaskFuture[Any]) -> str:
    """Run the call of a task in this process, and return a sentence with the result.

    If it raises, ``%debug`` in the next cell looks into its frames. Raises what `TaskFuture.replay`
    raises before the call.
    """
    try:
        value = future.replay()
    except Exception as error:
        if isinstance(error, NbqueueError):
            raise  # the call was not run
        _remember(error)
        return f"{error_text(error)}: %debug in the next cell looks into it"
    return f"Here it returned {value_text(value)}"


def _remember(error: Exception) -> None:
    """Make the error the last one of the kernel, as if a cell had raised it."""
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    shell = kernel_shell()
    if shell is not None:
        shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
