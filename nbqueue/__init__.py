"""Run any Python function from a notebook cell on durable background workers.

>>> import nbqueue
>>> q = nbqueue.connect()
>>> q.submit(sum, [1, 2, 3]).result()
6

Importing this package is cheap: each name loads its module on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbqueue import moved_modules
from nbqueue.lazy_names import lazy_names

__version__ = "0.1.0"

moved_modules.install()

_HOMES = {
    "connect": "nbqueue.client.client",
    "Client": "nbqueue.client.client",
    "TaskFuture": "nbqueue.client.futures.future",
    "TaskGroup": "nbqueue.client.futures.group",
    "wait": "nbqueue.client.futures.wait",
    "Inspector": "nbqueue.client.inspection.inspector",
    "QueueInfo": "nbqueue.broker.reads.models",
    "TaskInfo": "nbqueue.broker.reads.models",
    "Worker": "nbqueue.worker.worker",
    "current_task": "nbqueue.tasks.task",
    "Task": "nbqueue.tasks.task",
    "progress": "nbqueue.executor.output.progress",
    "report": "nbqueue.executor.output.task_reports",
    "rng": "nbqueue.executor.seeded_random",
    "Message": "nbqueue.tasks.aggregation_group",
    "exponential": "nbqueue.tasks.retry_policy",
    "asynq_delay": "nbqueue.tasks.retry_policy",
    "SkipRetry": "nbqueue.errors",
    "RevokeTask": "nbqueue.errors",
    "Periodic": "nbqueue.tasks.periodic",
    "RetryLater": "nbqueue.errors",
    "Limit": "nbqueue.limits",
    "NbqueueError": "nbqueue.errors",
    "UsageError": "nbqueue.errors",
    "InvalidDuration": "nbqueue.errors",
    "InvalidURL": "nbqueue.errors",
    "CannotPickle": "nbqueue.errors",
    "NoSigningKey": "nbqueue.errors",
    "ValueTooLarge": "nbqueue.errors",
    "LargeCaptureWarning": "nbqueue.errors",
    "LargeFrameWarning": "nbqueue.errors",
    "RandomStateWarning": "nbqueue.errors",
    "StoreError": "nbqueue.errors",
    "StoreUnreachable": "nbqueue.errors",
    "StoreDamaged": "nbqueue.errors",
    "StoreDenied": "nbqueue.errors",
    "StoreUnsuitable": "nbqueue.errors",
    "StoreWarning": "nbqueue.errors",
    "SubmitUnconfirmed": "nbqueue.errors",
    "NoEmbeddedServer": "nbqueue.errors",
    "QueueError": "nbqueue.errors",
    "QueueNotFound": "nbqueue.errors",
    "QueueNotEmpty": "nbqueue.errors",
    "TaskError": "nbqueue.errors",
    "TaskNotFound": "nbqueue.errors",
    "TaskGroupNotFound": "nbqueue.errors",
    "TaskIdConflict": "nbqueue.errors",
    "TaskNotUnique": "nbqueue.errors",
    "TaskStateError": "nbqueue.errors",
    "TaskFailed": "nbqueue.errors",
    "TaskCancelled": "nbqueue.errors",
    "TaskTimeout": "nbqueue.errors",
    "WorkerLost": "nbqueue.errors",
    "HandlerNotFound": "nbqueue.errors",
    "Schedule": "nbqueue.client.schedules.schedule",
    "ScheduleNotFound": "nbqueue.errors",
    "SignatureError": "nbqueue.errors",
    "UnknownKey": "nbqueue.errors",
    "UnknownNameWarning": "nbqueue.errors",
    "IncompatiblePython": "nbqueue.errors",
    "PlotMissing": "nbqueue.errors",
    "WorkerDidNotStart": "nbqueue.errors",
}

__all__ = [
    "CannotPickle",
    "Client",
    "HandlerNotFound",
    "IncompatiblePython",
    "Inspector",
    "InvalidDuration",
    "InvalidURL",
    "LargeCaptureWarning",
    "LargeFrameWarning",
    "Limit",
    "Message",
    "NbqueueError",
    "NoEmbeddedServer",
    "NoSigningKey",
    "Periodic",
    "PlotMissing",
    "QueueError",
    "QueueInfo",
    "QueueNotEmpty",
    "QueueNotFound",
    "RandomStateWarning",
    "RetryLater",
    "RevokeTask",
    "Schedule",
    "ScheduleNotFound",
    "SignatureError",
    "SkipRetry",
    "StoreDamaged",
    "StoreDenied",
    "StoreError",
    "StoreUnreachable",
    "StoreUnsuitable",
    "StoreWarning",
    "SubmitUnconfirmed",
    "Task",
    "TaskCancelled",
    "TaskError",
    "TaskFailed",
    "TaskFuture",
    "TaskGroup",
    "TaskGroupNotFound",
    "TaskIdConflict",
    "TaskInfo",
    "TaskNotFound",
    "TaskNotUnique",
    "TaskStateError",
    "TaskTimeout",
    "UnknownKey",
    "UnknownNameWarning",
    "UsageError",
    "ValueTooLarge",
    "Worker",
    "WorkerDidNotStart",
    "WorkerLost",
    "__version__",
    "asynq_delay",
    "connect",
    "current_task",
    "exponential",
    "progress",
    "report",
    "rng",
    "wait",
]


__getattr__ = lazy_names(__name__, _HOMES)


def load_ipython_extension(shell: Any) -> None:
    """Register the ``%nbqueue`` magic, for ``%load_ext nbqueue``. Opens no connection."""
    from nbqueue.notebook.magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Remove the ``%nbqueue`` magic, for ``%unload_ext nbqueue``."""
    from nbqueue.notebook.magics import unload

    unload(shell)


def __dir__() -> list[str]:
    return [*__all__]


if TYPE_CHECKING:
    from nbqueue.broker.reads.models import QueueInfo, TaskInfo
    from nbqueue.client.client import Client, connect
    from nbqueue.client.futures.future import TaskFuture
    from nbqueue.client.futures.group import TaskGroup
    from nbqueue.client.futures.wait import wait
    from nbqueue.client.inspection.inspector import Inspector
    from nbqueue.client.schedules.schedule import Schedule
    from nbqueue.errors import (
        CannotPickle,
        HandlerNotFound,
        IncompatiblePython,
        InvalidDuration,
        InvalidURL,
        LargeCaptureWarning,
        LargeFrameWarning,
        NbqueueError,
        NoEmbeddedServer,
        NoSigningKey,
        PlotMissing,
        QueueError,
        QueueNotEmpty,
        QueueNotFound,
        RandomStateWarning,
        RetryLater,
        RevokeTask,
        ScheduleNotFound,
        SignatureError,
        SkipRetry,
        StoreDamaged,
        StoreDenied,
        StoreError,
        StoreUnreachable,
        StoreUnsuitable,
        StoreWarning,
        SubmitUnconfirmed,
        TaskCancelled,
        TaskError,
        TaskFailed,
        TaskGroupNotFound,
        TaskIdConflict,
        TaskNotFound,
        TaskNotUnique,
        TaskStateError,
        TaskTimeout,
        UnknownKey,
        UnknownNameWarning,
        UsageError,
        ValueTooLarge,
        WorkerDidNotStart,
        WorkerLost,
    )
    from nbqueue.executor.output.progress import progress
    from nbqueue.executor.output.task_reports import report
    from nbqueue.executor.seeded_random import rng
    from nbqueue.limits import Limit
    from nbqueue.tasks.aggregation_group import Message
    from nbqueue.tasks.periodic import Periodic
    from nbqueue.tasks.retry_policy import asynq_delay, exponential
    from nbqueue.tasks.task import Task, current_task
    from nbqueue.worker.worker import Worker
