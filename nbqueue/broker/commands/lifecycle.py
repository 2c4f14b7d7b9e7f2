"""Commands of the normal life of a task: fetch or hand over, begin, extend, complete.

A worker without a task adds an offer to its queue. A client that enqueues a task while nothing is
pending hands it to one of these workers: the task becomes active with a lease, as if that worker
had fetched it, and the worker gets it in a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from nbqueue.broker.commands.failure import Who
from nbqueue.broker.commands.limits import Full
from nbqueue.broker.commands.retention import ATTEMPT_CAP, COUNTER_SECONDS, DAY_MS, EVENT_CAP
from nbqueue.broker.script_commands import PerTask, check_limit, command, flat, positions
from nbqueue.broker.staging import STAGED, stage_ends
from nbqueue.runtime.buffers import Body
from nbqueue.transport.script_call import Arg, Command
from nbqueue.wire.decoding import text, whole_number
from nbqueue.wire.keys import QueueKeys, day_keys, queue_keys


class Fetched(NamedTuple):
    """A task that a worker fetched."""

    task_id: str
    msg: bytes
    pending_since_ns: int | None
    attempt: int
    lost: int
    unread: int = 0
    """Length of a large message, which is left out here and read separately."""


class Handed(NamedTuple):
    """A task that was handed to a worker, with the token of its offer."""

    queue: str
    token: str
    task: Fetched


class Ended(NamedTuple):
    """A successful attempt, as `complete` needs it."""

    task_id: str
    fence: str
    keep_until: int | None
    msg: Body
    result: Body
    type: str
    attempt: int
    started_ms: int
    finished_ms: int
    waited_ms: int | None
    peak_memory: int
    is_large: bool = False
    """True if message or result is large, and the message names no unique lock."""
    result_pieces: Sequence[tuple[str, Body]] = ()
    """Fields and pieces of a detached result, of which ``result`` is only the head."""
    preview: bytes = b""
    """The signed preview of the result, of a task that is kept."""

    @property
    def result_size(self) -> int:
        """The length of the whole result in bytes."""
        size = len(self.result)
        for _, piece in self.result_pieces:
            size += len(piece)
        return size


def lease_score(ms: int) -> str:
    """Return the score of an nbqueue lease that ends at ``ms``.

    Scores are Unix seconds. This one has a fraction that is never zero; leases of programs in Go
    end at whole seconds, which sets them apart.
    """
    return f"{ms // 1000}.{ms % 1000 or 1:03d}"


def token_fence(token: str) -> str:
    """The fence of an attempt that was fetched with ``token``."""
    return "T" + token


def fetch(
    queue: str, limit: int, now_ms: int, lease_until_ms: int, token: str
) -> Command[list[Fetched] | None]:
    """Fetch pending tasks, oldest first.

    Reads as None if the queue is paused, and as `Full` if it has as many active tasks as allowed.
    """
    check_limit(limit)
    keys = queue_keys(queue)
    return command(
        "fetch",
        keys,
        {
            "task_prefix": keys.task_prefix,
            "limit": limit,
            "now_ms": now_ms,
            "lease_until": lease_score(lease_until_ms),
            "token": token,
            "event_cap": EVENT_CAP,
        },
        read_fetched,
    )


def read_fetched(reply: Any) -> list[Fetched] | None:
    """Read the reply of a script that fetches tasks."""
    if reply == b"PAUSED":
        return None
    if reply == b"FULL":
        return Full()
    tasks: list[Fetched] = []
    for task_id, msg, since, attempt, lost in zip(*[iter(reply)] * 5, strict=True):
        parts = (
            text(task_id),
            msg if type(msg) is bytes else b"",
            whole_number(since),
            whole_number(attempt) or 1,
            whole_number(lost) or 0,
            0 if type(msg) is bytes else msg,
        )
        # Calling Fetched takes twice as long, and this runs for each task.
        tasks.append(tuple.__new__(Fetched, parts))
    return tasks


def offer_text(until_ms: int, lease_until_ms: int, channel: str, token: str) -> str:
    """Encode an offer to take one task.

    It holds until a time, and names the end of the lease and the channel for the task.
    """
    return f"{until_ms} {lease_score(lease_until_ms)} {channel} {token}"


def add_offer(queue: str, offer: str, lasts_ms: int) -> Command[int]:
    """Offer to take one task.

    Reads as how many offers there are, or as 0 if the offer was refused, because the queue has a
    limit of its own.
    """
    return command("add_offer", queue_keys(queue), {"offer": offer, "lasts_ms": lasts_ms}, int)


def withdraw_offer(queue: str, text: str) -> tuple[str, str, int, str]:
    """Return a plain command that takes an offer back.

    It replies 0 if the offer is used or expired.
    """
    return ("LREM", queue_keys(queue).offers, 1, text)


def read_handed(data: bytes) -> Handed | None:
    """Read the message of ``lib/handoff.lua`` with a task; None if it is malformed."""
    head, _, rest = data.partition(b"\n")
    words = text(head).split(" ", 3)
    if len(words) != 4:
        return None
    token, since, length, queue = words
    size = whole_number(length)
    if size is None or not 0 < size < len(rest):
        return None
    task = Fetched(text(rest[:size]), rest[size:], whole_number(since), attempt=1, lost=0)
    return Handed(queue, token, task)


def hand_channel(queue: str, worker_id: str, number: int) -> str:
    """The channel on which a worker is handed tasks of a queue.

    Each connection of the worker has a channel of its own, so offers end with their connection.
    """
    return f"{queue_keys(queue).hand}{worker_id}:{number}"


def note_begun(queue: str, tasks: Sequence[tuple[str, str, int]]) -> Command[int]:
    """Note that the attempts of tasks, given as (id, fence, attempt), have begun.

    Reads as how many of the tasks the caller held.
    """
    keys = queue_keys(queue)
    return command(
        "note_begun",
        keys,
        {},
        int,
        tasks=PerTask(
            [keys.task(task_id) for task_id, _, _ in tasks],
            ("id", "fence", "attempt"),
            flat(tasks),
        ),
    )


_ENDED = (
    *("id", "fence", "keep_until", "msg", "result", "type"),
    *("attempt", "started_ms", "finished_ms", "waited_ms", "peak_memory"),
)
_ENDED_FULL = (
    *("id", "fence", "keep_until", "msg", "result", "type"),
    *("attempt", "started_ms", "finished_ms", "waited_ms", "peak_memory", "preview"),
)


def complete(queue: str, ended: Sequence[Ended], now_ms: int, who: Who) -> Command[list[int]]:
    """Finish tasks that succeeded.

    Reads as the positions of tasks that were no longer held.
    """
    keys = day_keys(queue, now_ms // DAY_MS)
    prefix = keys.task_prefix
    tasks: list[str] = []
    values: list[Arg] = []
    for task in ended:
        if task.is_large or task.result_pieces or task.preview:
            return _complete_full(keys, ended, now_ms, who)
        task_id, fence, keep_until, msg, result, name, attempt, begun, over, waited, peak, *_ = task
        tasks.append(prefix + task_id)
        values += (
            task_id,
            fence,
            "" if keep_until is None else keep_until,
            bytes(msg),
            bytes(result),
            name,
            attempt,
            begun,
            over,
            "" if waited is None else waited,
            peak,
        )
    return command(
        "complete",
        keys,
        _complete_args(keys, now_ms, who),
        positions,
        tasks=PerTask(tasks, _ENDED, values),
    )


def _complete_full(
    keys: QueueKeys, ended: Sequence[Ended], now_ms: int, who: Who
) -> Command[list[int]]:
    """Finish tasks of which some are large or have a preview."""
    large, staged = stage_ends(keys, ended)
    values: list[Arg] = []
    for task, letter in zip(ended, large, strict=True):
        values += (
            task.task_id,
            task.fence,
            "" if task.keep_until is None else task.keep_until,
            b"" if letter in STAGED else bytes(task.msg),
            b"" if letter == "r" else bytes(task.result),
            task.type,
            task.attempt,
            task.started_ms,
            task.finished_ms,
            "" if task.waited_ms is None else task.waited_ms,
            task.peak_memory,
            task.preview,
        )
    return command(
        "complete_full",
        keys,
        _complete_args(keys, now_ms, who, large),
        positions,
        tasks=PerTask([keys.task(task.task_id) for task in ended], _ENDED_FULL, values),
        staged=staged,
    )


def _complete_args(keys: QueueKeys, now_ms: int, who: Who, large: str = "") -> dict[str, Arg]:
    return {
        "now_ms": now_ms,
        "event_cap": EVENT_CAP,
        "attempt_cap": ATTEMPT_CAP,
        "day_expire_at": now_ms // 1000 + COUNTER_SECONDS,
        "ends_prefix": keys.ends,
        "worker": who.worker,
        "host": who.host,
        "large": large,
    }


def extend(queue: str, held: Sequence[tuple[str, str]], lease_until_ms: int) -> Command[list[int]]:
    """Extend the leases of tasks, given as (id, fence).

    Reads as the positions of tasks that the caller no longer held.
    """
    keys = queue_keys(queue)
    prefix = keys.task_prefix
    return command(
        "extend",
        keys,
        {"lease_until": lease_score(lease_until_ms)},
        positions,
        tasks=PerTask(
            [prefix + task_id for task_id, _ in held],
            ("id", "fence"),
            flat(held),
        ),
    )


def write_result(queue: str, task_id: str, fence: str, result: bytes) -> Command[bool]:
    """Write a preliminary result of a running task.

    Reads as whether the caller held the task.
    """
    keys = queue_keys(queue)
    return command(
        "write_result",
        keys,
        {"id": task_id, "fence": fence, "result": result},
        bool,
        other_keys={"task": keys.task(task_id)},
    )
