"""Completion of ``%nbqueue``: commands, options and their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING

from nbqueue.client.inspection.task_filter import STATES
from nbqueue.errors import NbqueueError
from nbqueue.notebook.magic_arguments import command_names
from nbqueue.notebook.string_completion import (
    names_of_queues,
    names_of_tasks,
    types_of_tasks,
)

if TYPE_CHECKING:
    from nbqueue.client.client import Client
    from nbqueue.notebook.magics import NbqueueMagics


def completions(parser: argparse.ArgumentParser, before: str, magics: NbqueueMagics) -> list[str]:
    """Return the words that may follow ``before``, the line up to the cursor.

    Names come from the store. Without a store there are none, and Tab shows no error.
    """
    words = before.split()
    if not before.endswith(" "):
        words = words[:-1]
    commands = command_names(parser)
    if len(words) < 2:
        return sorted(commands)
    command = commands.get(words[1])
    if command is None:
        return []
    option = _option_before(command, words[2:], before)
    try:
        if option is not None:
            return _values(option, magics)
        positional = [action for action in command._actions if not action.option_strings]
        found = [word for action in command._actions for word in action.option_strings]
        return list(chain.from_iterable(_values(each, magics) for each in positional)) + found
    except NbqueueError:
        return []


def _option_before(
    command: argparse.ArgumentParser, words: list[str], before: str
) -> argparse.Action | None:
    """Return the option whose value is at the cursor, if there is one."""
    last = before.split()[-1]
    is_assigned = not before.endswith(" ") and last.startswith("--") and "=" in last
    name = last.partition("=")[0] if is_assigned else (words[-1] if words else "")
    for action in command._actions:
        if name in action.option_strings and action.nargs != 0:
            return action
    return None


def _values(action: argparse.Action, magics: NbqueueMagics) -> list[str]:
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    known = _KNOWN.get(action.dest)
    return known(magics.client) if known is not None else []


def _states(client: Client) -> list[str]:
    return list(STATES)


_KNOWN: dict[str, Callable[[Client], list[str]]] = {
    "state": _states,
    "queue": names_of_queues,
    "queues": names_of_queues,
    "type": types_of_tasks,
    "task": names_of_tasks,
    "tasks": names_of_tasks,
    "name": names_of_tasks,
}
