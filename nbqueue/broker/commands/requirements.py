"""Commands for tasks that only some workers can run, and for capabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nbqueue.broker.commands.lifecycle import Fetched, lease_score, read_fetched
from nbqueue.broker.commands.retention import EVENT_CAP
from nbqueue.broker.script_commands import command
from nbqueue.errors import StoreDamaged
from nbqueue.requirements import is_met
from nbqueue.transport.script_call import Arg, Command
from nbqueue.wire.keys import SERVERS, queue_keys, stored_keys
from nbqueue.wire.server_info import read_worker_id

LISTED_SECONDS = 3 * 60
"""Seconds for which a worker stays listed with its capabilities."""


def park_required(
    queue: str, task_id: str, fence: str, requirement: str, now_ms: int
) -> Command[bool]:
    """Park a task until a worker meets ``requirement``.

    Reads as whether the caller held the task.
    """
    keys = queue_keys(queue)
    return command(
        "park_required",
        keys,
        {
            "id": task_id,
            "fence": fence,
            "requirement": requirement,
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
        },
        bool,
        other_keys={"task": keys.task(task_id)},
    )


def fetch_required(
    queue: str, requirement: str, limit: int, now_ms: int, lease_until_ms: int, token: str
) -> Command[list[Fetched] | None]:
    """Fetch tasks that are parked for ``requirement``. Reads as `lifecycle.fetch` does."""
    keys = queue_keys(queue)
    return command(
        "fetch_required",
        keys,
        {
            "task_prefix": keys.task_prefix,
            "limit": limit,
            "now_ms": now_ms,
            "lease_until": lease_score(lease_until_ms),
            "token": token,
            "event_cap": EVENT_CAP,
            "requirement": requirement,
        },
        read_fetched,
    )


def list_capabilities(
    worker_id: str, queues: Iterable[str], offered: Iterable[str], now_s: int
) -> list[tuple[Arg, ...]]:
    """Plain commands that list what a worker offers in the queues that it serves."""
    words: list[tuple[Arg, ...]] = []
    for queue in queues:
        key = queue_keys(queue).capabilities
        words.append(("ZADD", key, now_s, _member(worker_id, offered)))
        words.append(("ZREMRANGEBYSCORE", key, "-inf", now_s - LISTED_SECONDS))
        words.append(("EXPIRE", key, LISTED_SECONDS))
    return words


def unlist_capabilities(worker_id: str, queue: str, offered: Iterable[str]) -> Sequence[Arg]:
    """A plain command that takes a worker off the list of `list_capabilities`."""
    return ("ZREM", queue_keys(queue).capabilities, _member(worker_id, offered))


def _member(worker_id: str, offered: Iterable[str]) -> str:
    return " ".join((worker_id, *sorted(offered)))


def ask_capabilities(queue: str, now_s: int) -> tuple[Sequence[Arg], Sequence[Arg]]:
    """Plain commands that read which workers offer what; `is_alive` reads the replies."""
    return (
        ("ZRANGE", stored_keys(queue).capabilities, 0, -1),
        ("ZRANGEBYSCORE", SERVERS, f"({now_s}", "+inf"),
    )


def is_alive(requirement: str, members: Any, servers: Any) -> bool:
    """Return whether a living worker serves the queue and meets ``requirement``.

    Where a reply is a `StoreDamaged`, no worker does.
    """
    if isinstance(members, StoreDamaged) or isinstance(servers, StoreDamaged):
        return False
    alive = set(servers)
    for member in members:
        worker_id, *offered = member.decode("utf-8", "replace").split(" ")
        name = read_worker_id(worker_id)
        if name is not None and name.info_key.encode() in alive and is_met(requirement, offered):
            return True
    return False
