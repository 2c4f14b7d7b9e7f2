"""Run attempts in this process, like a worker with its executors.

There are two differences: time-outs and deadlines do not end a running task, and a task that kills
its process kills this one.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

from nbqueue.calls.keys.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame, Frames, TaskFrame
from nbqueue.executor.run_task import Interrupted, Job, Runner, call_hook, run_sync
from nbqueue.worker.handler_table import HandlerTable
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.decisions import Refusal, without_code
from nbqueue.worker.tasks.partial_results import report_envelope
from nbqueue.worker.tasks.task_acceptor import Verifier
from nbqueue.worker.worker import Worker

if TYPE_CHECKING:
    from nbqueue.worker.tasks.attempt import AttemptOwner

NO_OWNER = cast("AttemptOwner", None)
"""The owner of attempts whose outcome the caller of `LocalAttempts.run` deals with."""

GetCode = Callable[[str, bytes], bytes | None]


class LocalAttempts:
    """Runs attempts at tasks of ``queues`` with a worker's registrations.

    ``worker`` provides the handlers, hooks and policy.
    """

    def __init__(
        self, keys: Keyring, clock: Clock, worker: Worker, queues: Sequence[str] = ()
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._worker = worker
        self._queues = list(queues)
        self._runner = _Runner(lambda data: None)
        self._codes: set[bytes] = set()
        self._service: bytes | None = None
        self.handlers = self._table()

    def _table(self) -> HandlerTable:
        patterns = self._worker._settings_now().patterns
        return HandlerTable(self._keys, self._queues, patterns)

    def refresh(self, queue: str) -> None:
        """Load the latest registrations, and serve ``queue`` as well."""
        blob = self._worker._settings_now().service
        if blob != self._service or queue not in self._queues:
            if queue not in self._queues:
                self._queues.append(queue)
            self.handlers = self._table()
        if blob != self._service:
            self._service = blob
            for hook in self._runner.take_service(b"\0" + blob):
                call_hook(hook)

    def run(self, attempt: Attempt, code: GetCode) -> tuple[DoneFrame | Refusal, bytes | None]:
        """Make one attempt.

        Returns its outcome and the partial result that a failed one had reported, as it is stored.
        """
        refusal = Verifier(self._keys, self.handlers, self._clock).refusal(attempt)
        if refusal is None and not self._has_code(attempt, code):
            refusal = without_code(attempt)
        if refusal is not None:
            return refusal, None
        frame = attempt.frame(attempt.end_at(self._clock.now()))
        context = contextvars.copy_context()
        done: DoneFrame = context.run(run_sync, self._runner, frame, Interrupted())
        last = self._runner.reports.end(attempt.number, keep=done.outcome != pipe.VALUE)
        reported: bytes | None = None
        for _, body in Frames().feed(last):
            _, what, said = pipe.unpack_report(body)
            if what == pipe.RESULT_REPORT:
                reported = report_envelope(self._keys, attempt, said)
        return done, reported

    def _has_code(self, attempt: Attempt, code: GetCode) -> bool:
        fingerprint = attempt.fingerprint
        if fingerprint == pipe.NO_CODE or fingerprint in self._codes:
            return True
        blob = code(attempt.queue, fingerprint)
        if blob is None:
            return False
        self._runner.add_code(fingerprint + blob)
        self._codes.add(fingerprint)
        return True


class _Runner(Runner):
    """A runner that waits for coroutines, and lets `KeyboardInterrupt` through."""

    def prepare(self, frame: TaskFrame) -> Job:
        job = super().prepare(frame)
        job.function = _waited(job.function)
        return job

    def failed(
        self, frame: TaskFrame, error: BaseException, started: int, for_good: bool = False
    ) -> DoneFrame:
        if isinstance(error, KeyboardInterrupt):
            raise error
        return super().failed(frame, error, started, for_good)


def _waited(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        value = function(*args, **kwargs)
        if not inspect.isawaitable(value):
            return value

        async def wait() -> Any:
            return await value

        # In a thread, because there may be a loop in this one.
        context = contextvars.copy_context()
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(context.run, asyncio.run, wait()).result()

    return call
