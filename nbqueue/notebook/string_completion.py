"""Tab in ``q.group("…``, ``q.get("…`` and arguments of ``q.tasks``: names that the store has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from nbqueue.client.inspection.task_names import recent_tasks
from nbqueue.client.session import Session
from nbqueue.client.task_groups.stored_groups import group_names
from nbqueue.errors import NbqueueError
from nbqueue.wire import states

if TYPE_CHECKING:
    from nbqueue.client.client import Client

MOST: Final = 50
"""The most words that are offered."""

_CALL: Final = re.compile(
    r"""(?P<client>[A-Za-z_]\w*)\.(?P<method>group|get|tasks|attempts)\(
        (?P<before>[^()]*?)(?:\b(?P<keyword>\w+)\s*=\s*)?\[?\s*["'](?P<text>[^"'\\\n]*)$""",
    re.VERBOSE,
)


def names_of_groups(client: Client) -> list[str]:
    """Return the names of the newest groups."""
    return distinct(group_names(client._session))


def names_of_tasks(client: Client) -> list[str]:
    """Return names of recent tasks and of groups, then ids of recent tasks."""
    table = recent_tasks(client._session.broker)
    named = (name for name in table.name if name)
    return distinct(chain(named, group_names(client._session), table.task_id))


def types_of_tasks(client: Client) -> list[str]:
    """Return the types of recent tasks."""
    return distinct(message.type for message in recent_tasks(client._session.broker).message)


def names_of_queues(client: Client) -> list[str]:
    """Return the names of the queues."""
    return distinct(client.inspector.queues())


def distinct(words: Any) -> list[str]:
    """Return the first words, each once; without those that cannot be typed."""
    return [word for word in dict.fromkeys(words) if word.isprintable()][:MOST]


_KNOWN: Final[Mapping[tuple[str, str | None], Callable[[Client], list[str]]]] = {
    ("group", None): names_of_groups,
    ("get", None): names_of_tasks,
    ("tasks", "name"): names_of_tasks,
    ("tasks", "queue"): names_of_queues,
    ("tasks", "type"): types_of_tasks,
    ("tasks", "state"): lambda client: list(states.ALL),
    ("tasks", None): lambda client: list(states.ALL),
    ("attempts", "queue"): names_of_queues,
    ("attempts", "type"): types_of_tasks,
}


def string_completions(before: str, names: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """Return the text in the string at the cursor, and what it may become; None elsewhere.

    ``before``: the line up to the cursor. ``names``: the variables, of which one is the client.
    Without a store there is nothing to offer, and Tab shows no error.
    """
    call = _CALL.search(before)
    client = names.get(call["client"]) if call is not None else None
    session = getattr(client, "_session", None)
    if call is None or not isinstance(session, Session) or not session.is_open:
        return None
    assert client is not None
    known = _KNOWN.get((call["method"], call["keyword"]))
    if known is None or (call["keyword"] is None and call["before"].strip()):
        return None
    try:
        words = known(client)
    except NbqueueError:
        words = []
    return call["text"], [word for word in words if word.startswith(call["text"])]


def offer_names(shell: Any) -> None:
    """Have Tab complete names of the store in a shell of IPython, once."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    if getattr(shell, "_nbqueue_names", None) is not None:
        return

    def complete(context: Any) -> dict[str, Any]:
        before = context.line_with_cursor[: context.cursor_position]
        found = string_completions(before, shell.user_ns)
        if found is None:
            return {"completions": []}
        words = [SimpleCompletion(word, type="nbqueue") for word in found[1]]
        return {"completions": words, "suppress": bool(words), "matched_fragment": found[0]}

    shell._nbqueue_names = context_matcher(identifier="nbqueue.names")(complete)
    shell.Completer.custom_matchers.append(shell._nbqueue_names)
