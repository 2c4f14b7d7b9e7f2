"""The keys of task groups and of their names, which belong to no queue.

They are spread over slots by a digest: of the group's id for its record, of the name for a name.
"""

from __future__ import annotations

import hashlib
from typing import Final

SHARDS: Final = 256
"""Number of parts over which the records of task groups are spread."""


class TaskGroupKeys:
    """The keys of one task group."""

    def __init__(self, group_id: str) -> None:
        prefix = _prefix("group", _shard(group_id))
        self.record = f"{prefix}record:{group_id}"
        self.members = f"{prefix}members:{group_id}"
        self.index = prefix + "index"


def index_keys() -> list[str]:
    """Return the sorted sets of all task groups, by the time of their next check."""
    return [_prefix("group", f"{shard:02x}") + "index" for shard in range(SHARDS)]


def task_group_name(name: str) -> str:
    """Return the key of the newest task group with this name."""
    return f"{_prefix('name', _shard(name))}group:{name}"


def _shard(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:2]


def _prefix(kind: str, shard: str) -> str:
    return f"nbqueue:{{~{kind}:{shard}}}:"
