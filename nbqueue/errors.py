"""Every exception that nbqueue raises on purpose.

::

    NbqueueError
    ├── UsageError (also ValueError)            an argument that cannot be right
    │   ├── InvalidDuration                     "10 minuts"
    │   ├── InvalidURL                          a store URL that cannot be read
    │   ├── NoSigningKey                        a process that has no key, and must not make one
    │   ├── ValueTooLarge                       a value that is too large to be sent
    │   └── CannotPickle (also TypeError)       an argument or a function that cannot be sent
    ├── StoreError (also ConnectionError)       the store cannot be used
    │   ├── StoreUnreachable                    nobody answers there
    │   │   └── SubmitUnconfirmed               tasks were sent, and it is not known if it has them
    │   ├── StoreDenied                         wrong password, or no right to do this
    │   ├── StoreUnsuitable                     too old, or it may throw keys away
    │   ├── StoreDamaged                        a key holds what cannot be read
    │   └── NoEmbeddedServer                    no Redis program to start
    ├── QueueError                              something about one queue
    │   ├── QueueNotFound (also LookupError)    no such queue
    │   └── QueueNotEmpty                       it holds tasks, and was not to be removed with them
    ├── TaskError                               something about one task
    │   ├── TaskNotFound (also LookupError)     no such task, or its time was up
    │   ├── TaskIdConflict                      a task of this id exists
    │   ├── TaskNotUnique                       another task holds its unique lock
    │   ├── TaskStateError                      in its state this cannot be done with it
    │   ├── TaskFailed                          it failed, and its own exception cannot be shown
    │   ├── TaskCancelled (also CancelledError) somebody cancelled it
    │   ├── TaskTimeout (also TimeoutError)     it ran longer than it was allowed to
    │   ├── WorkerLost                          the process that ran it died, once too often
    │   └── HandlerNotFound (also LookupError)  no handler for a message of this type
    ├── ScheduleNotFound (also LookupError)     no such schedule
    ├── SignatureError                          bytes that no holder of our key signed
    │   └── UnknownKey                          signed with a key that this process lacks
    └── IncompatiblePython                      pickled by a Python that this one cannot read

``SkipRetry``, ``RevokeTask`` and ``RetryLater`` are raised *by tasks* to say what happens next;
they stand outside the tree, so that ``except NbqueueError`` in a task does not swallow them.
"""

from __future__ import annotations

import concurrent.futures
import sys
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

from nbqueue.printable import visible

if sys.version_info >= (3, 11):
    _TimeoutError = TimeoutError
else:

    class _TimeoutError(TimeoutError, concurrent.futures.TimeoutError):
        """Python's own, and that of `concurrent.futures`: two classes before Python 3.11."""


class NbqueueError(Exception):
    """The base of all errors of nbqueue. Catch it to handle any of them alike.

    As text it shows control characters as escapes; ``args`` has them as they are.
    """

    def __str__(self) -> str:
        return visible(super().__str__(), lines=True)


class UsageError(NbqueueError, ValueError):
    """An argument cannot be right. The message names the value and says what would be."""


class InvalidDuration(UsageError):
    """A duration that is no number of seconds, ``timedelta`` or text such as ``"1h30m"``."""


class InvalidURL(UsageError):
    """A store URL that cannot be read. The message shows the accepted forms."""


class NoSigningKey(UsageError):
    """This process has no signing key, and must not make one: it belongs to a task."""


class ValueTooLarge(UsageError):
    """A value is too large to be sent, or to be stored in Redis.

    ``path`` says where it is, from the outside in, such as ``("global 'table'",)``.
    """

    def __init__(self, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


class CannotPickle(UsageError, TypeError):
    """A function, an argument or a result cannot be sent to another process.

    ``path`` says where the culprit sits, from the outside in, such as
    ``("sweep()", "global 'conn'")``.
    """

    def __init__(self, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


class StoreError(NbqueueError, ConnectionError):
    """The store cannot be used. Catch it to try again later or elsewhere."""


class StoreUnreachable(StoreError):
    """Nobody answers at the store's address."""

    was_sent = False
    """Whether the request was sent, so that it may have been carried out."""


class SubmitUnconfirmed(StoreUnreachable):
    """Tasks were sent to the store, and the store did not confirm that it has them, or keeps them.

    ``task_ids`` are their ids, ``task_id`` is the first: ``q.get(task_id)`` finds the task, or
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
        """The id of the first of these tasks; None if there is none, as of a schedule."""
        return self.task_ids[0] if self.task_ids else None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.task_ids, self.schedule_id)


class StoreDenied(StoreError):
    """The store refuses: a wrong password, a missing user, or a missing right."""


class StoreUnsuitable(StoreError):
    """The server is too old, is not a Redis, or is set up to throw keys away."""


class StoreDamaged(StoreError):
    """A key of the store holds what nbqueue cannot read. The message names it.

    ``nbqueue store check`` lists all that cannot be read.
    """


class NoEmbeddedServer(StoreError):
    """There is no Redis program that the embedded store could start."""


class StoreWarning(UserWarning):
    """The store can be used, but tasks may be lost as it is set up."""


class LargeFrameWarning(UserWarning):
    """A frame of very many tasks is about to be read, which takes long and much memory."""


class LargeCaptureWarning(UserWarning):
    """A function is sent with a large value that it uses, which should be an argument."""


class RandomStateWarning(UserWarning):
    """Tasks draw from copies of one random generator.

    Of one that a function uses, each executor has a copy, from which its tasks draw on: results
    depend on how tasks are spread, with duplicates. Of one that is an argument, each task has one.
    """


class QueueError(NbqueueError):
    """Something about one queue; ``queue`` says which."""

    def __init__(self, message: str, queue: str = "") -> None:
        super().__init__(message)
        self.queue = queue


class QueueNotFound(QueueError, LookupError):
    """No task was ever enqueued to a queue of this name, or the queue was removed."""


class QueueNotEmpty(QueueError):
    """The queue holds tasks, and cannot be removed, or not without ``force``."""


class TaskError(NbqueueError):
    """Something about one task; ``task_id`` says which."""

    def __init__(self, message: str, task_id: str = "") -> None:
        super().__init__(message)
        self.task_id = task_id


class TaskNotFound(TaskError, LookupError):
    """The store has no such task: the id is wrong, or the time to keep it is over."""


class TaskIdConflict(TaskError):
    """A task of this id exists already."""


class TaskNotUnique(TaskError):
    """A unique task was not enqueued, because ``task_id`` holds its lock; ``state`` is the state
    of that one. Other ways to deal with it: ``on_conflict="existing"`` and ``"replace"``."""

    def __init__(self, message: str, task_id: str = "", state: str = "") -> None:
        super().__init__(message, task_id)
        self.state = state


class TaskStateError(TaskError):
    """What was asked for cannot be done with a task in its ``state``; nothing was changed."""

    def __init__(self, message: str, task_id: str = "", state: str = "") -> None:
        super().__init__(message, task_id)
        self.state = state


class TaskFailed(TaskError):
    """The task failed, and its own exception could not be brought here.

    The message has the type and the text of the original exception; ``traceback`` has the
    remote traceback.
    """

    def __init__(self, message: str, task_id: str = "", traceback: str = "") -> None:
        super().__init__(message, task_id)
        self.traceback = traceback


CANCELLED = "the task was cancelled"
"""What the store says of a task that was cancelled, whether it ran or not."""


class TaskCancelled(TaskError, CancelledError):
    """Somebody cancelled the task; nobody will run it.

    Also the ``CancelledError`` of `concurrent.futures`, which a future of any other executor
    raises then; not that of `asyncio`, which says that the *wait* was cancelled.
    """

    # Python makes it without arguments when it is raised in another thread.
    def __init__(self, message: str = CANCELLED, task_id: str = "") -> None:
        super().__init__(message, task_id)


class TaskTimeout(TaskError, _TimeoutError):
    """The task ran longer than its time-out, or past its deadline."""

    def __init__(
        self, message: str = "the time that the task may take is over", task_id: str = ""
    ) -> None:
        super().__init__(message, task_id)


del _TimeoutError  # nothing to catch: it is a base of `TaskTimeout` only


class WorkerLost(TaskError):
    """The process that ran the task died, and the task must not, or must no more, run again."""


class HandlerNotFound(TaskError, LookupError):
    """No worker has a handler for a message of this type."""


class ScheduleNotFound(NbqueueError, LookupError):
    """The store has no such schedule: the id is wrong, or somebody removed it."""


class SignatureError(NbqueueError):
    """Bytes that were not signed, were changed, or belong to another task. Never unpickled."""


class UnknownKey(SignatureError):
    """Signed with a key that this process does not have; ``key_id`` says which."""

    def __init__(self, message: str, key_id: str = "") -> None:
        super().__init__(message)
        self.key_id = key_id


class IncompatiblePython(NbqueueError):
    """Pickled by a version of Python whose pickles this version cannot load."""


class SkipRetry(Exception):
    """Raise in a task: it failed, and trying again is of no use. The task is archived."""


class RevokeTask(Exception):
    """Raise in a task: it is no longer wanted. It is deleted, and counts as processed."""


class RetryLater(Exception):
    """Raise in a task: try again after ``delay``.

    ``delay`` is a duration (seconds, ``timedelta`` or text). With ``counts=False`` this is no
    failure: it uses up no retry.
    """

    def __init__(self, delay: object, *, counts: bool = True) -> None:
        super().__init__(delay)
        self.delay = delay
        self.counts = counts
