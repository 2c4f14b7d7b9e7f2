"""Actions on tasks: which of them a state allows, their questions, and their results in words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from nbqueue.client.inspection.task_filter import BulkResult
from nbqueue.dashboard.tables.table_model import Action
from nbqueue.dashboard.tables.task_key import split_key
from nbqueue.views.format import count
from nbqueue.wire import states

ACTIONS: Final = {
    states.PENDING: ("cancel", "archive", "delete"),
    states.ACTIVE: ("cancel",),
    states.SCHEDULED: ("run", "cancel", "archive", "delete"),
    states.RETRY: ("run", "cancel", "archive", "delete"),
    states.ARCHIVED: ("run", "delete"),
    states.COMPLETED: ("run", "delete"),
    states.AGGREGATING: ("run", "cancel", "archive", "delete"),
}
"""The actions on tasks in each state: methods of the inspector."""

ANY_STATE: Final = ("run", "cancel", "archive", "delete")
"""The actions on selected tasks of several states; those that do not allow one are refused."""

_RESULTS: Final = {
    "run": "will run",
    "cancel": "cancelled",
    "archive": "archived",
    "delete": "deleted",
}


def on_selected(names: Sequence[str], number: int) -> list[Action]:
    """Return actions on a number of selected tasks."""
    return [
        Action(
            name,
            name.capitalize(),
            f"{name.capitalize()} the {count(number, 'selected task')}",
            f"{name.capitalize()} {count(number, 'task')}?",
            bool(number),
        )
        for name in names
    ]


def on_all(names: Sequence[str], number: int, of: str) -> list[Action]:
    """Return actions on all tasks ``of`` a list, which are ``number``."""
    return [
        Action(
            name,
            f"{name.capitalize()} all {number:,}",
            f"{name.capitalize()} all {number:,} {of}",
            f"{name.capitalize()} {count(number, 'task')}?",
        )
        for name in names
    ]


def by_queue(keys: Collection[str]) -> dict[str, list[str]]:
    """Return the ids of tasks by their queue."""
    found: dict[str, list[str]] = {}
    for key in keys:
        queue, task_id = split_key(key)
        found.setdefault(queue, []).append(task_id)
    return found


def summary(action: str, results: Sequence[BulkResult]) -> str:
    """Return a sentence that names the action and the number of tasks."""
    asked = sum(len(result.asked) for result in results)
    refused = [reason for result in results for reason in result.refused.values()]
    text = f"{sum(map(len, results)):,} {_RESULTS[action]}"
    if asked:
        text += f", {asked:,} running and asked to end"
    if refused:
        text += f", {len(refused):,} refused ({refused[0]})"
    return text
