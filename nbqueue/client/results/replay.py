"""Running a stored call in this process, with its code and arguments."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from nbqueue.broker.large_values import whole_payload
from nbqueue.calls import payloads
from nbqueue.calls.call_extensions import Seed
from nbqueue.calls.functions import fingerprint_of, load_arguments, load_function
from nbqueue.errors import SignatureError, TaskNotFound, UsageError
from nbqueue.executor.seeded_random import seeded
from nbqueue.tasks.retry_policy import WithPolicy
from nbqueue.wire.keys import stored_keys

if TYPE_CHECKING:
    from nbqueue.client.session import Session


class LoadedCall(NamedTuple):
    """A function with arguments, loaded from a task."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    seed: Seed | None = None


def load_call(session: Session, queue: str, task_id: str) -> LoadedCall:
    """Load the call of a task, after its signature was verified.

    Raises `TaskNotFound`, `UsageError` for a message, `SignatureError`, and `IncompatiblePython`.
    """
    record = session.broker.find(task_id, queue)
    if record is None:
        raise TaskNotFound(
            f"task {task_id} is no longer in the store, and its arguments with it", task_id
        )
    message = record.message
    if not payloads.is_call(message.payload):
        raise UsageError(
            f"task {task_id} is a message of type {message.type!r}: only calls can run here"
        )
    payload = whole_payload(session.broker, queue, task_id, message.payload)
    call = session.keyring.verify_call(payload, task_id, queue, message.type)
    [blob] = session.broker.call(("GET", stored_keys(queue).code(call.fingerprint)), on=queue)
    if blob is None:
        raise TaskNotFound(f"the code of task {task_id} is no longer in the store", task_id)
    if fingerprint_of(blob) != call.fingerprint:
        raise SignatureError(f"the code of task {task_id} was changed in the store: not loaded")
    function = load_function(blob)
    if isinstance(function, WithPolicy):
        function = function.fn
    args, kwargs = load_arguments(call.arguments)
    return LoadedCall(function, args, kwargs, call.seed)


def replay_task(session: Session, queue: str, task_id: str) -> Any:
    """Run the call of a task in this process; see `TaskFuture.replay`."""
    __tracebackhide__ = True  # IPython then begins with the user's own frames
    function, args, kwargs, seed = load_call(session, queue, task_id)
    with seeded(seed):
        result = function(*args, **kwargs)
        if inspect.iscoroutine(result):
            return _run(result)
        return result


def _run(coroutine: Any) -> Any:
    """Run a coroutine to its end, in another thread if a loop runs in this one."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    from concurrent.futures import ThreadPoolExecutor

    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, asyncio.run, coroutine).result()
