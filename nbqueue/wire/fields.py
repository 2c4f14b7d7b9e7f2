"""The fields of a task's hash.

Asynq's own fields are exactly those of its format. Fields that begin with ``nbq:`` are ours:
Asynq reads and writes fields by name and deletes the hash whole, so it keeps them unseen.
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
"""Before the number of a piece, from 0: the arguments of a call whose message has only its head."""

RESULT_PIECES: Final = "nbq:result:"
"""Before 16 digits of what it is, and the number of a piece: a result of which `RESULT` has only
the head."""

LEASE: Final = "nbq:lease"
"""``<token>|<nanoseconds>``: who holds the task since when, and since when it was pending."""

ATTEMPT: Final = "nbq:attempt"
"""How often the task was fetched by a worker of nbqueue."""

LOST: Final = "nbq:lost"
"""How many of its attempts ended because the process that ran it died."""

BEGUN: Final = "nbq:begun"
"""The number of the last attempt that is known to have begun."""

UNBEGUN: Final = "nbq:unbegun"
"""How many of its attempts ended with the death of a whole worker, not known to have begun."""

ERROR: Final = "nbq:error"
"""The signed exception of the last failed attempt."""

FAILED: Final = "nbq:failed"
"""What the message said of the failure that `ERROR` belongs to; see `messages.failure_mark`."""

UNIQUE: Final = "nbq:unique"
"""For how long a unique task holds its lock once it is due, in milliseconds."""

ADDED: Final = "nbq:added"
"""When a task came to its aggregation group, in Unix milliseconds; the set holds whole seconds."""

DUE: Final = "nbq:due"
"""When a scheduled or retried task is due, in Unix milliseconds; the sets hold whole seconds."""

LIMIT: Final = "nbq:limit"
"""The name of the limit under which the task runs."""

PARKED: Final = "nbq:parked"
"""What a parked task waits for: ``limit:<name>``, ``lock:<key>`` or ``need:<requirement>``;
``turn``: it may run next."""

NAME: Final = "nbq:name"
"""The name that the task was given with ``options(name=…)``."""

OUTPUT: Final = "nbq:output"
"""``<attempt>-<number>``: the last entry that was written to the task's output."""

PROGRESS: Final = "nbq:progress"
"""How far the task is: JSON; see `nbqueue.executor.output.progress_values`."""
