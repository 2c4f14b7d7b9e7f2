"""Completion of ``%nbqueue``: commands, options and their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING

from nbqueue.broker.reads.models import TaskInfo
from nbqueue.client.inspection.task_filter import STATES
from nbqueue.errors import NbqueueError
from nbqueue.notebook.magic_arguments import command_names
from nbqueue.wire import fields
from nbqueue.wire.keys import stored_keys

if TYPE_CHECKING:
    from nbqueue.client.client import Client
    from nbqueue.notebook.magics import NbqueueMagics

_MOST = 50
_RECENT = ("active", "archived", "retry", "pending", "completed")
_PAGE = 20


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


def _queues(client: Client) -> list[str]:
    return client.inspector.queues()


def _types(client: Client) -> list[str]:
    return _distinct(task.type for task in _recent_tasks(client))


def _tasks(client: Client) -> list[str]:
    """Return names and ids of recent tasks."""
    tasks = list(_recent_tasks(client))
    return _distinct(chain(_names(client, tasks), (task.id for task in tasks)))


def _names(client: Client, tasks: Iterable[TaskInfo]) -> list[str]:
    by_queue: dict[str, list[str]] = {}
    for task in tasks:
        by_queue.setdefault(task.queue, []).append(task.id)
    found: list[str] = []
    for queue, ids in by_queue.items():
        keys = stored_keys(queue)
        reads = [("HGET", keys.task(task_id), fields.NAME) for task_id in ids]
        names = client._session.broker.call(*reads, on=queue)
        found += [name.decode("utf-8", "replace") for name in names if name]
    return [name for name in found if name.isprintable()]


def _recent_tasks(client: Client) -> Iterable[TaskInfo]:
    inspector = client.inspector
    for queue in inspector.queues()[:_MOST]:
        for state in _RECENT:
            try:
                yield from inspector.page(queue, state, 0, _PAGE, newest_first=True)
            except NbqueueError:
                continue  # a damaged queue completes nothing


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))[:_MOST]


_KNOWN: dict[str, Callable[[Client], list[str]]] = {
    "state": _states,
    "queue": _queues,
    "queues": _queues,
    "type": _types,
    "task": _tasks,
    "tasks": _tasks,
}
