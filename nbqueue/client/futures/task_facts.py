"""`TaskFacts`: what a handle knows about its task from the start."""

from __future__ import annotations

from typing import NamedTuple


class TaskFacts(NamedTuple):
    """Facts that a future knows about its task from the start."""

    task_id: str
    queue: str
    type: str
    name: str | None = None
    is_call: bool = True
    is_json: bool = False
    is_kept: bool = False
    """True for a message that is kept for a while after it has completed."""
