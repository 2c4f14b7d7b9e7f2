"""Large messages and results past Lua: staged for a script on their way in, read apart on their
way out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbqueue.broker.large_values import argument_fields
from nbqueue.runtime.buffers import LARGE, Body
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.script_call import Staged
from nbqueue.wire import fields
from nbqueue.wire.keys import QueueKeys, queue_keys

if TYPE_CHECKING:
    from nbqueue.broker.commands.lifecycle import Ended

STAGED = frozenset("mr")
"""Letters of tasks of which something is staged."""


def stage_new(keys: QueueKeys, number: int, task: NewTask) -> tuple[bytes, list[Staged]]:
    """The message of the task with this position in its command, for the arguments of the script;
    if it is large, or lies in pieces, that is empty, and staged is all of it."""
    if not task.is_staged:
        return bytes(task.msg), []
    values = [(fields.MSG, task.msg), *argument_fields(task.detached)]
    return b"", [Staged(keys.staged(number), values)]


def stage_ends(keys: QueueKeys, ended: Sequence[Ended]) -> tuple[str, list[Staged]]:
    """What is large of tasks that ended: their letters as ``complete.lua`` wants them, and that."""
    for task in ended:
        if task.is_large or task.result_pieces:
            break
    else:
        return "", []
    letters: list[str] = []
    staged: list[Staged] = []
    for number, task in enumerate(ended):
        letter = "."
        if task.result_pieces:
            letter = "p"
            staged.append(Staged(keys.task(task.task_id), task.result_pieces, stays=True))
        elif task.is_large:
            letter = "d" if task.keep_until is None else "r" if len(task.result) > LARGE else "m"
        letters.append(letter)
        if letter in STAGED:
            values: list[tuple[str, Body]] = [(fields.MSG, task.msg)]
            if letter == "r":
                values.append((fields.RESULT, task.result))
            staged.append(Staged(keys.staged(number), values))
    return "".join(letters), staged


def read_message_of(queue: str, task_id: str) -> tuple[str, str, str]:
    """The command that reads the message of a task which `commands.fetch` only gave the size of."""
    return ("HGET", queue_keys(queue).task(task_id), fields.MSG)
