"""What comes of runs: what they say of themselves, and how they end; and whom that concerns."""

from __future__ import annotations

from nbqueue.calls.keys.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.executors.executor_process import ExecutorExit
from nbqueue.worker.scheduling.aggregator import Aggregator
from nbqueue.worker.scheduling.providers import Providers
from nbqueue.worker.tasks import decisions
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.outcome_commands import OutcomeCommands
from nbqueue.worker.tasks.output_writer import OutputWriter
from nbqueue.worker.tasks.partial_results import PartialResults


class OutcomeRouter:
    """Told by the pool. Most runs are tasks; those of the aggregator and of providers are not."""

    def __init__(
        self,
        links: WorkerConnections,
        clock: Clock,
        keys: Keyring,
        answers: OutcomeCommands,
        aggregator: Aggregator,
        providers: Providers,
    ) -> None:
        self._clock = clock
        self._answers = answers
        self._aggregator = aggregator
        self._providers = providers
        self._results = PartialResults(links, keys)
        self._outputs = OutputWriter(links, keys, clock)
        self.flush = self._outputs.flush
        """Write what runs said of themselves. Once a round, before ends are acknowledged."""

    def reported(self, run: Attempt, what: int, body: bytes) -> None:
        """It runs, and said something of itself."""
        run.has_reported = True
        self._results.take(run, what, body)
        self._outputs.take(run, what, body)

    def done(self, run: Attempt, done: DoneFrame) -> None:
        """Its executor answered."""
        if run.call is None:
            if run.fingerprint == pipe.AGGREGATION:
                self._aggregator.done(run, done)
                return
            if self._providers.took(run, done):
                return
        if run.has_reported:
            self._results.finish(run, keep=done.outcome != pipe.VALUE)
            self._outputs.finish(run, is_success=done.outcome in (pipe.VALUE, pipe.REVOKED))
        self._answers.done(run, done, self._clock.now_ms())

    def lost(self, run: Attempt, why: ExecutorExit, innocent: bool) -> None:
        """Its executor is gone; ``innocent``: perhaps for the sake of another task."""
        if run.fingerprint == pipe.AGGREGATION:
            self._aggregator.lost(run, why.text)
            return
        if self._providers.took(run, None):
            return
        if run.has_reported:
            self._results.finish(run, keep=True)
            self._outputs.finish(run, is_success=False)
        self._answers.failed(run, decisions.after_loss(run, why.reason, why.text, innocent))

    def no_code(self, run: Attempt) -> None:
        """Its code is not to be had."""
        text = (
            f"the code of {run.message.type} is not in the store any more (or was changed there): "
            "submit the task again"
        )
        self._answers.failed(run, decisions.Archive("no code", text))
