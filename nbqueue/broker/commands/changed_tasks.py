"""Reading tasks whose state changed without an announcement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nbqueue.broker.reads.task_record import Ending
from nbqueue.broker.script_commands import PerTask, command
from nbqueue.transport.script_call import Command
from nbqueue.wire import states
from nbqueue.wire.attempts import is_last_failure
from nbqueue.wire.keys import stored_keys
from nbqueue.wire.messages import read_message

MOST_LOOKED_AT = 5_000
"""Tasks in one command, which then takes Redis some 5 ms."""

_MOST_BYTES = 1_000_000


class ChangedTask(NamedTuple):
    """A task whose state differs from the last known one.

    ``state`` is None if the task is gone. ``ending`` is the outcome of a task that ended; None as
    well if that is too large for this reply.
    """

    queue: str
    task_id: str
    state: str | None
    ending: Ending | None = None


def changed_tasks(queue: str, tasks: Mapping[str, str]) -> Command[list[ChangedTask]]:
    """Read the given tasks of a queue whose state has changed.

    ``tasks`` holds the last known state of each, by id.
    """
    names, keys = list(tasks), stored_keys(queue)
    return command(
        "changed_tasks",
        None,
        {"most_bytes": _MOST_BYTES},
        lambda reply: [_changed(queue, names, each) for each in reply],
        tasks=PerTask(
            [keys.task(task_id) for task_id in names],
            ("seen",),
            tasks.values(),
            most=len(names),
        ),
    )


def _changed(queue: str, names: Sequence[str], found: list[Any]) -> ChangedTask:
    position, state, *values = found
    task_id = names[position]
    if not state:
        return ChangedTask(queue, task_id, None)
    word = state.decode("utf-8", "replace")
    return ChangedTask(queue, task_id, word, _ending(word, *values) if values else None)


def _ending(
    state: str, result: bytes, error: bytes = b"", mark: bytes = b"", msg: bytes = b""
) -> Ending:
    if state == states.COMPLETED:
        return Ending(state, result)
    message = read_message(msg)
    if message is None or (error and is_last_failure(message, mark)):
        return Ending(state, error=error)
    return Ending(state, error_text=message.error_msg)
