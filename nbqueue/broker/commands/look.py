"""Looking at tasks whose ends nobody may have announced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nbqueue.broker import script_loader
from nbqueue.broker.reads.task_record import Ending
from nbqueue.transport.script_call import Arg, Command
from nbqueue.wire import states
from nbqueue.wire.attempts import is_last_failure
from nbqueue.wire.keys import stored_keys
from nbqueue.wire.messages import read_message

MOST_LOOKED_AT = 5_000
"""Tasks in one look, which takes Redis some 5 ms then."""

_MOST_BYTES = 1_000_000


class Looked(NamedTuple):
    """A task that is in another state than when it was seen last.

    ``state`` is None if it is gone. ``ending`` is set for one that ended, unless it is too large
    to come along with others.
    """

    queue: str
    task_id: str
    state: str | None
    ending: Ending | None = None


def look(tasks: Mapping[tuple[str, str], str]) -> Command[list[Looked]]:
    """Look at tasks, given by queue and id, that were seen in these states.

    Reads as those that are in another state now.
    """
    names = list(tasks)
    args: list[Arg] = [_MOST_BYTES, *tasks.values()]
    keys = [stored_keys(queue).task(task_id) for queue, task_id in names]
    script = script_loader.load("look")
    script.check(len(keys), len(args))
    return Command(script, keys, args, lambda reply: [_looked(names, each) for each in reply])


def _looked(names: Sequence[tuple[str, str]], found: list[Any]) -> Looked:
    position, state, *values = found
    queue, task_id = names[position]
    if not state:
        return Looked(queue, task_id, None)
    word = state.decode("utf-8", "replace")
    return Looked(queue, task_id, word, _ending(word, *values) if values else None)


def _ending(state: str, result: bytes, error: bytes, mark: bytes, msg: bytes) -> Ending:
    if state == states.COMPLETED:
        return Ending(state, result)
    message = read_message(msg)
    if message is None or (error and is_last_failure(message, mark)):
        return Ending(state, error=error)
    return Ending(state, error_text=message.error_msg)
