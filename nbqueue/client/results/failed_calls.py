"""Failed tasks with their calls, errors and tracebacks, and equal errors counted together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nbqueue.calls.exceptions import RemoteTraceback, error_text
from nbqueue.client.arguments.stored_arguments import stored_calls
from nbqueue.printable import printable
from nbqueue.views.failed_call import ErrorKind, FailedCall

if TYPE_CHECKING:
    from nbqueue.client.session import Session

_MOST_CALLS = 5


class FailedTask(NamedTuple):
    """A task that failed, with its exception; ``label`` names it to a person."""

    label: str
    queue: str
    task_id: str
    error: BaseException


def failed_call(session: Session, task: FailedTask) -> FailedCall:
    """Return what failed, where, and with which arguments.

    Reads the call from the store. Raises nothing: a call that cannot be read is left out.
    """
    call = stored_calls(session, task.queue, [task.task_id]).get(task.task_id)
    return _failed_call(task.error, call.text if call is not None else "")


def error_kinds(session: Session, tasks: Iterable[FailedTask], most: int) -> list[ErrorKind]:
    """Count equal errors together, the most frequent ``most`` of them first.

    Each has the calls of its first tasks, read from the store. Raises nothing.
    """
    by_error: dict[str, list[FailedTask]] = {}
    for task in tasks:
        by_error.setdefault(error_text(task.error), []).append(task)
    frequent = sorted(by_error.values(), key=len, reverse=True)[:most]
    return [_kind(session, tasks) for tasks in frequent]


def _kind(session: Session, tasks: Sequence[FailedTask]) -> ErrorKind:
    by_queue: dict[str, list[str]] = {}
    for task in tasks[:_MOST_CALLS]:
        by_queue.setdefault(task.queue, []).append(task.task_id)
    calls = {
        task_id: call.text
        for queue, ids in by_queue.items()
        for task_id, call in stored_calls(session, queue, ids).items()
    }
    named = [(printable(t.label), calls.get(t.task_id, "")) for t in tasks[:_MOST_CALLS]]
    return ErrorKind(_failed_call(tasks[0].error, ""), len(tasks), named)


def _failed_call(error: BaseException, call: str) -> FailedCall:
    cause = error.__cause__
    text = str(cause.args[0]) if isinstance(cause, RemoteTraceback) and cause.args else ""
    return FailedCall(printable(error_text(error)), call, printable(text.rstrip(), lines=True))
