"""What is asked of the store about tasks that need certain workers, and what workers offer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nbqueue.broker.commands.lifecycle import Fetched, read_fetched
from nbqueue.broker.script_commands import EVENT_CAP, command, seconds_never_whole
from nbqueue.errors import StoreDamaged
from nbqueue.requirements import is_met
from nbqueue.transport.script_call import Arg, Command
from nbqueue.wire.keys import SERVERS, queue_keys, stored_keys
from nbqueue.wire.server_info import read_worker_id

LISTED_SECONDS = 3 * 60
"""How long a worker is known for what it offers without saying so again."""


def park_required(
    queue: str, task_id: str, fence: str, requirement: str, now_ms: int
) -> Command[bool]:
    """Park a task until a worker comes that meets ``requirement``. Reads as whether it was held."""
    keys = queue_keys(queue)
    return command(
        "park_required",
        (keys.task(task_id), keys.active, keys.lease, keys.events, keys.requirements),
        (task_id, fence, requirement, now_ms, EVENT_CAP),
        bool,
    )


def fetch_required(
    queue: str, requirement: str, limit: int, now_ms: int, lease_until_ms: int, token: str
) -> Command[list[Fetched] | None]:
    """Take tasks that are parked for ``requirement``. Reads as `lifecycle.fetch` does."""
    keys = queue_keys(queue)
    return command(
        "fetch_required",
        (
            keys.paused,
            keys.active,
            keys.lease,
            keys.events,
            keys.settings,
            keys.scheduled,
            keys.requirements,
        ),
        (
            keys.task_prefix,
            limit,
            now_ms,
            seconds_never_whole(lease_until_ms),
            token,
            EVENT_CAP,
            requirement,
        ),
        read_fetched,
    )


def list_capabilities(
    worker_id: str, queues: Iterable[str], offered: Iterable[str], now_s: int
) -> list[tuple[Arg, ...]]:
    """Plain commands that say what a worker of these queues offers."""
    words: list[tuple[Arg, ...]] = []
    for queue in queues:
        key = queue_keys(queue).capabilities
        words.append(("ZADD", key, now_s, _member(worker_id, offered)))
        words.append(("ZREMRANGEBYSCORE", key, "-inf", now_s - LISTED_SECONDS))
        words.append(("EXPIRE", key, LISTED_SECONDS))
    return words


def unlist_capabilities(worker_id: str, queue: str, offered: Iterable[str]) -> Sequence[Arg]:
    """A plain command that takes back what `list_capabilities` said."""
    return ("ZREM", queue_keys(queue).capabilities, _member(worker_id, offered))


def _member(worker_id: str, offered: Iterable[str]) -> str:
    return " ".join((worker_id, *sorted(offered)))


def ask_capabilities(queue: str, now_s: int) -> tuple[Sequence[Arg], Sequence[Arg]]:
    """Plain commands whose replies `is_alive` reads."""
    return (
        ("ZRANGE", stored_keys(queue).capabilities, 0, -1),
        ("ZRANGEBYSCORE", SERVERS, f"({now_s}", "+inf"),
    )


def is_alive(requirement: str, members: Any, servers: Any) -> bool:
    """Whether a worker is alive that serves the queue and meets ``requirement``; nobody does where
    a reply is a `StoreDamaged`."""
    if isinstance(members, StoreDamaged) or isinstance(servers, StoreDamaged):
        return False
    alive = set(servers)
    for member in members:
        worker_id, *offered = member.decode("utf-8", "replace").split(" ")
        name = read_worker_id(worker_id)
        if name is not None and name.info_key.encode() in alive and is_met(requirement, offered):
            return True
    return False
