"""What producers ask of the store: to keep code, and to put new tasks in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbqueue.broker.command import EVENT_CAP, Arg, Command, NewTask, command, positions
from nbqueue.wire.keys import QueueKeys, queue_keys


def _positions_or_no_code(reply: Any) -> list[int] | None:
    return None if reply == b"NOCODE" else positions(reply)


def store_code(queue: str, fingerprint: bytes, blob: bytes, now_ms: int) -> Command[int]:
    """Keep the code of a function for the tasks of ``queue``."""
    keys = queue_keys(queue)
    return command(
        "store_code",
        (keys.code(fingerprint), keys.code_index),
        (now_ms, fingerprint.hex(), blob),
        int,
    )


def drop_code(queue: str, fingerprint: bytes, seen_at: str) -> Command[bool]:
    """Forget code that no task uses, unless it was asked for since ``seen_at``."""
    keys = queue_keys(queue)
    return command(
        "drop_code",
        (keys.code(fingerprint), keys.code_index),
        (fingerprint.hex(), seen_at),
        bool,
    )


def enqueue(
    queue: str,
    tasks: Sequence[NewTask],
    now_ms: int,
    fingerprint: bytes | None = None,
    repeated: bool = False,
) -> Command[list[int] | None]:
    """Make tasks pending. Reads as the positions of those whose id existed, or ``None`` if the
    store lacks the code: then nothing was written."""
    keys = queue_keys(queue)
    prefix = keys.task_prefix
    names = [keys.pending, keys.events, _code_key(keys, fingerprint), keys.code_index]
    names += [prefix + task.task_id for task in tasks]
    code = fingerprint.hex() if fingerprint else ""
    args: list[Arg] = [now_ms, EVENT_CAP, code, int(repeated)]
    for task in tasks:
        args += task
    return command("enqueue", names, args, _positions_or_no_code)


def schedule(
    queue: str,
    tasks: Sequence[tuple[NewTask, int]],
    now_ms: int,
    fingerprint: bytes | None = None,
    repeated: bool = False,
) -> Command[list[int] | None]:
    """Put tasks aside until they are due (Unix ms). Reads as `enqueue`."""
    keys = queue_keys(queue)
    names = [keys.scheduled, keys.events, _code_key(keys, fingerprint), keys.code_index]
    names += [keys.task(task.task_id) for task, _ in tasks]
    code = fingerprint.hex() if fingerprint else ""
    args: list[Arg] = [now_ms, EVENT_CAP, code, int(repeated), keys.wake]
    for task, due_ms in tasks:
        args += (*task, due_ms)
    return command("schedule", names, args, _positions_or_no_code)


def _code_key(keys: QueueKeys, fingerprint: bytes | None) -> str:
    # A script needs the key even where no code is asked for; it must share the queue's slot.
    return keys.code(fingerprint) if fingerprint else keys.code_index
