"""Staging of large messages for scripts, and reading them apart from replies.

Large results are staged as well.
"""

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
"""The letters of tasks with staged values."""


def stage_new(keys: QueueKeys, number: int, task: NewTask) -> tuple[bytes, list[Staged]]:
    """The message of a task as an argument, and what is staged.

    A large or detached message is staged, and its argument is empty. ``number`` is the position of
    the task in its command.
    """
    if not task.is_staged:
        return bytes(task.msg), []
    values = [(fields.MSG, task.msg), *argument_fields(task.detached)]
    return b"", [Staged(keys.staged(number), values)]


def stage_ends(keys: QueueKeys, ended: Sequence[Ended]) -> tuple[str, list[Staged]]:
    """The argument ``large`` of ``complete_full.lua``, and the staged values."""
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
    """Return a plain command that reads a large message.

    A fetch only returned the size of that message.
    """
    return ("HGET", queue_keys(queue).task(task_id), fields.MSG)
