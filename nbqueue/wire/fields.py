"""The fields of a task's hash.

Asynq's fields are exactly those of its format. Fields that begin with ``nbq:`` are nbqueue's:
Asynq reads and writes fields by name and deletes the hash whole, so it keeps them.
"""

from __future__ import annotations

from typing import Final

MSG: Final = "msg"
STATE: Final = "state"
PENDING_SINCE: Final = "pending_since"
UNIQUE_KEY: Final = "unique_key"
GROUP: Final = "group"
RESULT: Final = "result"

ARGUMENTS: Final = "nbq:args:"
"""Prefix of the numbered pieces of detached arguments.

The message holds only the head of such arguments.
"""

RESULT_PIECES: Final = "nbq:result:"
"""Prefix of the pieces of a detached result.

16 digits of its digest and a number follow.
"""

LEASE: Final = "nbq:lease"
"""``<token>|<nanoseconds>``: the token of the fetch, and the start of the wait.

The task was pending since that time, in Unix nanoseconds.
"""

ATTEMPT: Final = "nbq:attempt"
"""Number of times that a worker of nbqueue fetched the task."""

LOST: Final = "nbq:lost"
"""Number of attempts that were lost because their process died."""

BEGUN: Final = "nbq:begun"
"""The number of the last attempt that is known to have begun."""

UNBEGUN: Final = "nbq:unbegun"
"""Number of attempts that were lost with a whole worker.

These may not have begun.
"""

ERROR: Final = "nbq:error"
"""The signed exception of the last failed attempt."""

FAILED: Final = "nbq:failed"
"""The mark of the failure that `ERROR` belongs to.

See `nbqueue.wire.attempts.failure_mark`.
"""

UNIQUE: Final = "nbq:unique"
"""Milliseconds for which a unique task holds its lock once it is due."""

ADDED: Final = "nbq:added"
"""The time when a task joined its aggregation group, in Unix milliseconds.

The set of the group holds whole seconds.
"""

DUE: Final = "nbq:due"
"""The time when a scheduled or retried task is due, in Unix milliseconds.

The sets of such tasks hold whole seconds.
"""

LIMIT: Final = "nbq:limit"
"""The name of the limit under which the task runs."""

PARKED: Final = "nbq:parked"
"""Reason of a parked task.

``limit:<name>``, ``lock:<key>`` or ``need:<requirement>``; ``turn`` if the task may run next.
"""

NAME: Final = "nbq:name"
"""The name of the task from ``options(name=…)``."""

OUTPUT: Final = "nbq:output"
"""``<attempt>-<number>``: the last entry of the task's output."""

PREVIEW: Final = "nbq:preview"
"""The signed preview of the result, as `nbqueue.tasks.result_preview` packs it."""

PROGRESS: Final = "nbq:progress"
"""The progress of the task as JSON; see `nbqueue.executor.output.progress_values`."""
