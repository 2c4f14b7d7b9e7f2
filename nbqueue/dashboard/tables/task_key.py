"""Names of tasks and schedules in dashboards: ids are unique only within their queue."""

from __future__ import annotations

from urllib.parse import quote, unquote


def task_key(queue: str, task_id: str) -> str:
    """Return a name that is unique in the store.

    >>> task_key("a/b", "7")
    'a%2Fb/7'
    """
    return f"{quote(queue, safe='', errors='surrogateescape')}/{task_id}"


def split_key(key: str) -> tuple[str, str]:
    """Return the queue and the id of a name made by `task_key`."""
    queue, _, task_id = key.partition("/")
    return unquote(queue, errors="surrogateescape"), task_id
