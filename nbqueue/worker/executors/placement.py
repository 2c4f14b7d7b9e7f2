"""Choose the executor in which an attempt begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nbqueue.worker.executors.executor_process import LOOP, SYNC, THREADS, ExecutorProcess
from nbqueue.worker.executors.load_estimate import LoadEstimate
from nbqueue.worker.settings import THREAD, WorkerSettings
from nbqueue.worker.tasks.attempt import Attempt


class Placement:
    """Finds an executor with room, or starts one.

    ``executors`` is the pool's own list. ``spawn(kind, is_fresh)`` starts one more, or returns
    None if none may be started.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        executors: Sequence[ExecutorProcess],
        load: LoadEstimate,
        spawn: Callable[[str, bool], ExecutorProcess | None],
    ) -> None:
        self._executors = executors
        self._load = load
        self._spawn = spawn
        self._kind = THREADS if settings.executor == THREAD else SYNC
        self._concurrency = settings.concurrency
        self._most_tasks = settings.tasks_per_executor

    def executor_for(self, attempt: Attempt) -> ExecutorProcess | None:
        """Return an executor that may begin ``attempt`` now or soon, or None."""
        if attempt.is_fresh:
            return self._fresh_executor(attempt)
        kind = LOOP if attempt.is_coroutine else self._kind
        most_tasks = self._most_tasks
        best, least, count, any_fresh = None, 0, 0, False
        for executor in self._executors:
            if executor.is_fresh:
                any_fresh = True
                continue
            if executor.kind != kind or executor.retiring:
                continue
            count += 1
            load = len(executor.attempts)
            if most_tasks is not None and executor.finished + load >= most_tasks:
                continue
            if best is None or load < least:
                best, least = executor, load
        # An idle executor first, then a new one, and only then a place behind another task.
        if not (any_fresh and self._are_slots_taken()):
            if best is not None and least < best.capacity:
                return best
            limit = self._concurrency if kind == SYNC else 1
            if count < limit:
                spawned = self._spawn(kind, False)
                if spawned is not None:
                    return spawned
        elif least == 0:
            return None
        if best is None or kind != SYNC or attempt.is_limited:
            return None
        return best if least < best.capacity + self._load.queued() else None

    def _fresh_executor(self, attempt: Attempt) -> ExecutorProcess | None:
        """Return an unused executor that will run only this attempt."""
        kind = LOOP if attempt.is_coroutine else SYNC
        for executor in self._executors:
            # An unused one: the attempt that it was started for was taken back.
            if executor.is_fresh and executor.kind == kind and executor.is_unused:
                return executor
        return None if self._are_slots_taken() else self._spawn(kind, True)

    def _are_slots_taken(self) -> bool:
        taken = 0
        for executor in self._executors:
            # In a sync executor only the first attempt runs.
            taken += min(len(executor.attempts), executor.capacity)
        return taken >= self._concurrency
