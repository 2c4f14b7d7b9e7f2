"""Kill executors that should have ended and did not."""

from __future__ import annotations

from collections.abc import Sequence

from nbqueue.executor import pipe
from nbqueue.runtime.reactor import Reactor
from nbqueue.worker.executors.executor_process import ExecutorProcess
from nbqueue.worker.tasks.attempt import Attempt

_LAST_ANSWERS = 0.2


class ExecutorReaper:
    """Gives each executor ``grace`` seconds first. ``executors`` is the pool's own list."""

    def __init__(
        self, reactor: Reactor, executors: Sequence[ExecutorProcess], grace: float
    ) -> None:
        self._reactor = reactor
        self._executors = executors
        self._grace = grace

    def after_stop(self, executor: ExecutorProcess) -> None:
        """Kill an idle executor that does not end.

        A task may have left a thread that keeps the process alive.
        """
        self._reactor.after(self._grace, lambda: self._end_idle(executor))

    def after_hanging_up(self, executor: ExecutorProcess) -> None:
        """Kill an executor that closed its socket and does not end."""
        self._reactor.after(_LAST_ANSWERS, lambda: self._kill(executor))

    def after_interrupt(self, executor: ExecutorProcess, attempt: Attempt) -> None:
        """Kill an executor if an exception did not end ``attempt``."""
        self._reactor.after(self._grace, lambda: self._kill_if_running(executor, attempt))

    def _end_idle(self, executor: ExecutorProcess) -> None:
        if executor in self._executors:
            if executor.attempts:
                self._reactor.after(1.0, lambda: self._end_idle(executor))
            else:
                executor.kill("it was to end and did not")

    def _kill(self, executor: ExecutorProcess) -> None:
        if executor in self._executors:
            executor.kill("its process lost the connection to its supervisor")

    @staticmethod
    def _kill_if_running(executor: ExecutorProcess, attempt: Attempt) -> None:
        if attempt.number in executor.attempts:
            word = "timed out" if attempt.stop_reason == pipe.TIMED_OUT else "was cancelled"
            executor.kill(f"another task of its executor {word} and did not end", attempt)
