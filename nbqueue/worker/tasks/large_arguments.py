"""Reading arguments that lie beside their message, once the task is ours."""

from __future__ import annotations

import logging
from collections.abc import Callable
from hashlib import sha256

from nbqueue.broker.large_values import read_arguments
from nbqueue.calls.detached import DetachedBody
from nbqueue.calls.keys.signing import Keyring
from nbqueue.calls.payloads import beside_call
from nbqueue.errors import SignatureError
from nbqueue.transport.resp import ReplyError, is_transient
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks.attempt import Attempt

log = logging.getLogger("nbqueue.worker")

_PAUSE = 0.5


class LargeArguments:
    """Fetches what a task lacks, and hands it on. It is held meanwhile, as any that is ours.

    Nothing is read that the signature of the head does not vouch for; what such a task lacks is
    refused when it is admitted. ``then`` gets each, whether or not all of it came.
    """

    def __init__(
        self, links: WorkerConnections, keys: Keyring, then: Callable[[Attempt], None]
    ) -> None:
        self._links = links
        self._keys = keys
        self._then = then
        self._under_way: dict[int, tuple[Attempt, DetachedBody]] = {}
        links.on_up.append(self._again)

    def __len__(self) -> int:
        """How many tasks are being read."""
        return len(self._under_way)

    def take(self, run: Attempt) -> bool:
        """Read what ``run`` lacks; False if that is nothing."""
        beside = self._lacks(run)
        if beside is not None:
            self._under_way[run.number] = run, beside
            self._read(run, beside)
        return beside is not None

    def give_up(self) -> list[Attempt]:
        """Take back all that is being read."""
        runs = [run for run, _ in self._under_way.values()]
        self._under_way.clear()
        return runs

    def take_out(self, task_id: str) -> list[Attempt]:
        """Take back what is being read of tasks with this id, which may be in several queues."""
        runs = [run for run, _ in self._under_way.values() if run.task_id == task_id]
        for run in runs:
            del self._under_way[run.number]
        return runs

    def _lacks(self, run: Attempt) -> DetachedBody | None:
        payload, message = run.payload, run.message
        try:
            if beside_call(payload) is None:
                return None
            beside = self._keys.verify_call(
                payload, run.task_id, run.queue, message.type, only_head=True
            ).beside
        except SignatureError:
            return None
        return beside if beside is not None and beside.size else None

    def _read(self, run: Attempt, beside: DetachedBody) -> None:
        link = self._links.tasks
        if link is None:
            return  # for now
        digest = sha256()
        calls, gathering = read_arguments(run.queue, run.task_id, run.payload, beside, digest)

        def over() -> None:
            if run.number not in self._under_way:
                return
            whole, refusal = gathering.whole(), gathering.refusal
            if isinstance(refusal, ReplyError) and is_transient(refusal):
                refused("to give arguments", refusal)
                self._links.later(_PAUSE, lambda: self._read_again(run.number))
                return
            del self._under_way[run.number]
            if whole is not None:
                run.apart = memoryview(whole)
                run.is_checked = digest.digest() == beside.digest
            self._then(run)

        link.gather(calls, gathering, over)

    def _again(self) -> None:
        for run, beside in list(self._under_way.values()):
            self._read(run, beside)

    def _read_again(self, number: int) -> None:
        found = self._under_way.get(number)
        if found is not None:
            self._read(*found)
