"""The states of a task, in the order of its life."""

from __future__ import annotations

from typing import Final

WAITING: Final = "waiting"
SCHEDULED: Final = "scheduled"
AGGREGATING: Final = "aggregating"
PENDING: Final = "pending"
ACTIVE: Final = "active"
RETRY: Final = "retry"
COMPLETED: Final = "completed"
ARCHIVED: Final = "archived"

ALL: Final = (WAITING, SCHEDULED, AGGREGATING, PENDING, ACTIVE, RETRY, COMPLETED, ARCHIVED)
FINAL: Final = frozenset({COMPLETED, ARCHIVED})
