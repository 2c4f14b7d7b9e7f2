"""Offers: a worker that is idle asks for new tasks before there are any.

Who writes a task while nothing waits in its queue hands it to a worker that offered to take it, and
that has it without asking for it. The task is then active with a lease, as if it had been fetched.
"""

from __future__ import annotations

from typing import NamedTuple

from nbqueue.broker.commands.lifecycle import Fetched
from nbqueue.broker.script_commands import command, decoded_id, decoded_number, seconds_never_whole
from nbqueue.transport.script_call import Command
from nbqueue.wire.keys import HAND_CHANNEL, queue_keys


class Handed(NamedTuple):
    """A task that was handed to a worker, and the token of the offer under which it was."""

    queue: str
    token: str
    task: Fetched


def offer_text(until_ms: int, lease_until_ms: int, channel: str, token: str) -> str:
    """An offer that holds until then, of a lease that ends then, to be answered on ``channel``."""
    return f"{until_ms} {seconds_never_whole(lease_until_ms)} {channel} {token}"


def offer(queue: str, text: str, lasts_ms: int) -> Command[int]:
    """Offer to take one task. Reads as how many offers there are, or as 0 if this one was not
    accepted: the queue has a limit of its own."""
    keys = queue_keys(queue)
    return command("offer", (keys.offers, keys.settings), (text, lasts_ms), int)


def withdraw(queue: str, text: str) -> tuple[str, str, int, str]:
    """The command that takes an offer back; it replies 0 if that was used, or had run out."""
    return ("LREM", queue_keys(queue).offers, 1, text)


def read_handed(data: bytes) -> Handed | None:
    """What a worker was told, as ``lib/hand.lua`` says it; None if it makes no sense."""
    head, _, rest = data.partition(b"\n")
    words = decoded_id(head).split(" ", 3)
    if len(words) != 4:
        return None
    token, since, length, queue = words
    size = decoded_number(length)
    if size is None or not 0 < size < len(rest):
        return None
    task = Fetched(decoded_id(rest[:size]), rest[size:], decoded_number(since), attempt=1, lost=0)
    return Handed(queue, token, task)


def hand_channel(worker_id: str, number: int) -> str:
    """Where a worker is told; another one for each of its connections, so that nothing which was
    offered over an earlier one counts."""
    return f"{HAND_CHANNEL}{worker_id}:{number}"
