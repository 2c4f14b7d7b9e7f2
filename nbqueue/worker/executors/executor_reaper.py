"""Ends executors that should have ended by themselves."""

from __future__ import annotations

from collections.abc import Sequence

from nbqueue.executor import pipe
from nbqueue.runtime.reactor import Reactor
from nbqueue.worker.executors.executor_process import ExecutorProcess
from nbqueue.worker.tasks.attempt import Attempt

_LAST_WORDS = 0.2


class ExecutorReaper:
    """Gives each some time first. ``executors`` are those that the pool still has."""

    def __init__(
        self, reactor: Reactor, executors: Sequence[ExecutorProcess], grace: float
    ) -> None:
        self._reactor = reactor
        self._executors = executors
        self._grace = grace

    def after_stop(self, executor: ExecutorProcess) -> None:
        """It was told to end when it is idle; something that a task left behind may keep it."""
        self._reactor.after(self._grace, lambda: self._end_idle(executor))

    def after_hanging_up(self, executor: ExecutorProcess) -> None:
        """It closed its socket. It has ended, or soon will; if not, it is of no use any more."""
        self._reactor.after(_LAST_WORDS, lambda: self._kill_deaf(executor))

    def after_interrupt(self, executor: ExecutorProcess, run: Attempt) -> None:
        """An exception was raised in ``run``, which should end it."""
        self._reactor.after(self._grace, lambda: self._kill_if_running(executor, run))

    def _end_idle(self, executor: ExecutorProcess) -> None:
        if executor in self._executors:
            if executor.runs:
                self._reactor.after(1.0, lambda: self._end_idle(executor))
            else:
                executor.kill("it was to end and did not")

    def _kill_deaf(self, executor: ExecutorProcess) -> None:
        if executor in self._executors:
            executor.kill("its process lost the connection to its supervisor")

    @staticmethod
    def _kill_if_running(executor: ExecutorProcess, run: Attempt) -> None:
        if run.number in executor.runs:
            word = "timed out" if run.stop_reason == pipe.TIMED_OUT else "was cancelled"
            executor.kill(f"another task of its executor {word} and did not end", run)
