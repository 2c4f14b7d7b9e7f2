"""Handing new tasks to idle workers that offered to take them.

A worker without a task adds an offer to its queue. A client that enqueues a task while nothing is
pending hands it to one of these workers: the task becomes active with a lease, as if that worker
had fetched it, and the worker gets it in a message.
"""

from __future__ import annotations

from typing import NamedTuple

from nbqueue.broker.commands.lifecycle import Fetched, lease_score
from nbqueue.broker.script_commands import command
from nbqueue.transport.script_call import Command
from nbqueue.wire.decoding import text, whole_number
from nbqueue.wire.keys import HAND_CHANNEL, queue_keys


class Handed(NamedTuple):
    """A task that was handed to a worker, with the token of its offer."""

    queue: str
    token: str
    task: Fetched


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


def withdraw(queue: str, text: str) -> tuple[str, str, int, str]:
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


def hand_channel(worker_id: str, number: int) -> str:
    """The channel on which a worker is handed tasks.

    Each connection of the worker has a channel of its own, so offers end with their connection.
    """
    return f"{HAND_CHANNEL}{worker_id}:{number}"
