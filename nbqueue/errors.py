"""Every exception that nbqueue raises on purpose.

::

    NbqueueError
    ├── UsageError (also ValueError)            an invalid argument
    │   ├── InvalidDuration                     "10 minuts"
    │   ├── InvalidURL                          a store URL that cannot be parsed
    │   ├── NoSigningKey                        no key, and this process must not make one
    │   ├── ValueTooLarge                       a value that is too large to send
    │   └── CannotPickle (also TypeError)       an argument or a function that cannot be sent
    ├── StoreError (also ConnectionError)       the store cannot be used
    │   ├── StoreUnreachable                    no server answers at its address
    │   │   └── SubmitUnconfirmed               tasks were sent, but the store did not confirm them
    │   ├── StoreDenied                         wrong password, or a missing permission
    │   ├── StoreUnsuitable                     too old, or configured to evict keys
    │   ├── StoreDamaged                        a key holds data that cannot be read
    │   └── NoEmbeddedServer                    no Redis program to start
    ├── QueueError                              about one queue
    │   ├── QueueNotFound (also LookupError)    no such queue
    │   └── QueueNotEmpty                       it still holds tasks
    ├── TaskError                               about one task
    │   ├── TaskNotFound (also LookupError)     no such task, or its retention is over
    │   ├── TaskIdConflict                      a task with this id exists
    │   ├── TaskNotUnique                       another task holds its unique lock
    │   ├── TaskStateError                      not possible in the task's current state
    │   ├── TaskFailed                          it failed, and its exception cannot be loaded
    │   ├── TaskCancelled (also CancelledError) it was cancelled
    │   ├── TaskTimeout (also TimeoutError)     it ran longer than allowed
    │   ├── WorkerLost                          the process that ran it died
    │   └── HandlerNotFound (also LookupError)  no handler for a message of this type
    ├── ScheduleNotFound (also LookupError)     no such schedule
    ├── TaskGroupNotFound (also LookupError)    no such task group, or all of its tasks are gone
    ├── SignatureError                          data that none of the keys signed
    │   └── UnknownKey                          signed with a key that this process lacks
    ├── IncompatiblePython                      pickled by an incompatible Python version
    ├── WorkerDidNotStart                       a worker ended before it was ready
    └── PlotMissing (also ImportError)          a plot needs matplotlib

Tasks raise ``SkipRetry``, ``RevokeTask`` and ``RetryLater`` to decide what happens next. They are
outside the tree, so that ``except NbqueueError`` in a task does not catch them.
"""

from __future__ import annotations

import concurrent.futures
import sys
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

from nbqueue.printable import printable

if sys.version_info >= (3, 11):
    _TimeoutError = TimeoutError
else:

    class _TimeoutError(TimeoutError, concurrent.futures.TimeoutError):
        """Combine the two ``TimeoutError`` classes that exist before Python 3.11."""


class NbqueueError(Exception):
    """Base class of all nbqueue errors.

    The text shows control characters as escapes; ``args`` has the original text.
    """

    def __str__(self) -> str:
        return printable(super().__str__(), lines=True)


class UsageError(NbqueueError, ValueError):
    """An argument is invalid. The message names it and gives a valid form."""


class InvalidDuration(UsageError):
    """A duration is not a number of seconds, a ``timedelta`` or text like ``"1h30m"``."""


class InvalidURL(UsageError):
    """A store URL cannot be parsed. The message shows the accepted forms."""


class NoSigningKey(UsageError):
    """This process has no signing key and must not make one.

    A process that belongs to a task never makes a key.
    """


class ValueTooLarge(UsageError):
    """A value is too large to be sent or stored in Redis.

    ``path`` locates it, from the outside in, such as ``("global 'table'",)``.
    """

    def __init__(self, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


class CannotPickle(UsageError, TypeError):
    """A function, an argument or a result cannot be sent to another process.

    ``path`` locates the cause, from the outside in, such as ``("sweep()", "global 'conn'")``.
    """

    def __init__(self, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


class StoreError(NbqueueError, ConnectionError):
    """The store cannot be used. Catch it to retry later or elsewhere."""


class StoreUnreachable(StoreError):
    """No server answers at the store's address."""

    was_sent = False
    """True if the request was sent, and so may have been executed."""


class SubmitUnconfirmed(StoreUnreachable):
    """Tasks were sent, but the store did not confirm that it stored them.

    ``task_ids`` are their ids, ``task_id`` is the first. ``q.get(task_id)`` returns the task or
    raises `TaskNotFound`. For a schedule, ``schedule_id`` is its id.
    """

    def __init__(
        self, message: str, task_ids: Sequence[str] = (), schedule_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.task_ids = list(task_ids)
        self.schedule_id = schedule_id

    @property
    def task_id(self) -> str | None:
        """The id of the first of these tasks; None for a schedule."""
        return self.task_ids[0] if self.task_ids else None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.task_ids, self.schedule_id)


class StoreDenied(StoreError):
    """The server refused: a wrong password, a missing user or permission."""


class StoreUnsuitable(StoreError):
    """The server is too old, not a Redis, or configured to evict keys."""


class StoreDamaged(StoreError):
    """A key of the store holds data that nbqueue cannot read.

    The message names the key. ``nbqueue store check`` lists everything that cannot be read.
    """


class NoEmbeddedServer(StoreError):
    """The embedded store found no Redis program to start."""


class StoreWarning(UserWarning):
    """The store works, but its configuration may lose tasks."""


class UnknownNameWarning(UserWarning):
    """Nothing in the store has this name, which may be misspelled."""


class LargeFrameWarning(UserWarning):
    """A very large frame is about to be read, which is slow and memory-hungry."""


class LargeCaptureWarning(UserWarning):
    """A function captures a large value that should be an argument."""


class RandomStateWarning(UserWarning):
    """Tasks draw random numbers from copies of one generator.

    Each executor gets one copy of a generator that the function uses, and its tasks draw from it in
    turn: results depend on how tasks are distributed, and numbers repeat. A generator that is an
    argument is copied for each task, so all of them draw identical numbers.
    """


class QueueError(NbqueueError):
    """An error about one queue, named by ``queue``."""

    def __init__(self, message: str, queue: str = "") -> None:
        super().__init__(message)
        self.queue = queue


class QueueNotFound(QueueError, LookupError):
    """No task was ever enqueued to this queue, or the queue was removed."""


class QueueNotEmpty(QueueError):
    """The queue still holds tasks. Some can be removed with ``force``."""


class TaskError(NbqueueError):
    """An error about one task, identified by ``task_id``."""

    def __init__(self, message: str, task_id: str = "") -> None:
        super().__init__(message)
        self.task_id = task_id


class TaskNotFound(TaskError, LookupError):
    """The store has no such task: a wrong id, or its retention is over."""


class TaskGroupNotFound(NbqueueError, LookupError):
    """The store has no such task group: a wrong id or name, or all of its tasks are gone.

    ``group`` is the id or name that was asked for.
    """

    def __init__(self, message: str, group: str = "") -> None:
        super().__init__(message)
        self.group = group


class TaskIdConflict(TaskError):
    """A task with this id already exists."""


class TaskNotUnique(TaskError):
    """Another task, ``task_id``, holds the unique lock; nothing was enqueued.

    ``state`` is the state of the other task. Alternatives: ``on_conflict="existing"`` and
    ``"replace"``.
    """

    def __init__(self, message: str, task_id: str = "", state: str = "") -> None:
        super().__init__(message, task_id)
        self.state = state


class TaskStateError(TaskError):
    """The action is not possible in the task's ``state``. Nothing was changed."""

    def __init__(self, message: str, task_id: str = "", state: str = "") -> None:
        super().__init__(message, task_id)
        self.state = state


class TaskFailed(TaskError):
    """The task failed, and its own exception could not be loaded here.

    The message has the type and the text of the original exception; ``traceback`` has the remote
    traceback.
    """

    def __init__(self, message: str, task_id: str = "", traceback: str = "") -> None:
        super().__init__(message, task_id)
        self.traceback = traceback


CANCELLED = "the task was cancelled"
"""The error text stored for a cancelled task, running or not."""


class TaskCancelled(TaskError, CancelledError):
    """The task was cancelled and will not run.

    This is also the ``CancelledError`` of `concurrent.futures`, which futures of other executors
    raise. It is not asyncio's, which means that the *wait* was cancelled.
    """

    # Python calls the class without arguments when it raises it in another thread.
    def __init__(self, message: str = CANCELLED, task_id: str = "") -> None:
        super().__init__(message, task_id)


class TaskTimeout(TaskError, _TimeoutError):
    """The task exceeded its time-out or its deadline."""

    def __init__(
        self, message: str = "the time that the task may take is over", task_id: str = ""
    ) -> None:
        super().__init__(message, task_id)


del _TimeoutError  # only a base class of `TaskTimeout`


class WorkerLost(TaskError):
    """The process that ran the task died, and the task will not run again."""


class HandlerNotFound(TaskError, LookupError):
    """No worker has a handler for a message of this type."""


class ScheduleNotFound(NbqueueError, LookupError):
    """The store has no such schedule: a wrong id, or it was removed."""


class SignatureError(NbqueueError):
    """Data are unsigned, changed, or belong to another task. They are never unpickled."""


class UnknownKey(SignatureError):
    """Signed with a key that this process lacks; ``key_id`` identifies it."""

    def __init__(self, message: str, key_id: str = "") -> None:
        super().__init__(message)
        self.key_id = key_id


class IncompatiblePython(NbqueueError):
    """Pickled by a Python version whose pickles this version cannot load."""


class WorkerDidNotStart(NbqueueError):
    """The process of a worker ended before it was ready; the message has what it printed."""


class SkipRetry(Exception):
    """Raise it in a task to fail without further retries. The task is archived."""


class RevokeTask(Exception):
    """Raise it in a task to discard the task.

    The task is deleted and counts as processed.
    """


class RetryLater(Exception):
    """Raise it in a task to retry after ``delay``.

    ``delay`` is a duration (seconds, ``timedelta`` or text). With ``counts=False`` the attempt is
    not a failure and uses up no retry.
    """

    def __init__(self, delay: object, *, counts: bool = True) -> None:
        super().__init__(delay)
        self.delay = delay
        self.counts = counts


class PlotMissing(NbqueueError, ImportError):
    """A plot needs matplotlib, which is not installed."""
