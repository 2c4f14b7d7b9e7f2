"""Results that tasks report while they run: signed, and written to the store.

The last one counts, so that of each task at most one write is under way; what comes meanwhile
replaces what waits. What the store has not acknowledged is written again after a loss.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from nbqueue.broker.commands.task_reports import write_result
from nbqueue.calls import payloads
from nbqueue.calls.keys.signing import Keyring
from nbqueue.executor import pipe
from nbqueue.transport.resp import ReplyError
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks.attempt import Attempt

log = logging.getLogger("nbqueue.worker")


class PartialResults:
    """Takes reports of running tasks. A report of a kind that it does not know is dropped."""

    def __init__(self, links: WorkerConnections, keys: Keyring) -> None:
        self._links = links
        self._keys = keys
        self._latest: dict[int, tuple[Attempt, bytes]] = {}
        self._under_way: set[int] = set()
        links.on_down.append(self._under_way.clear)
        links.on_up.append(self._write_again)

    def take(self, run: Attempt, kind: int, body: bytes) -> None:
        """A running task reported."""
        if kind == pipe.RESULT_REPORT:
            self._latest[run.number] = (run, body)
            if run.number not in self._under_way:
                self._write(run.number)

    def finish(self, run: Attempt, *, keep: bool) -> None:
        """The task ends next. With ``keep`` its last report is written before."""
        if not self._latest and not self._under_way:
            return
        number = run.number
        if keep and self._links.tasks is None:
            return  # it is written when the store is back, ahead of the end
        if keep and number in self._latest and number in self._under_way:
            self._write(number)
        self._latest.pop(number, None)
        self._under_way.discard(number)

    def _write(self, number: int) -> None:
        link = self._links.tasks
        if link is None:
            return
        run, body = self._latest[number]
        self._under_way.add(number)
        link.send(
            write_result(run.queue, run.task_id, run.fence, report_envelope(self._keys, run, body)),
            partial(self._on_reply, number, body),
        )

    def _on_reply(self, number: int, body: bytes, reply: Any) -> None:
        self._under_way.discard(number)
        if isinstance(reply, ReplyError):
            refused("a reported result", reply)
        found = self._latest.get(number)
        if found is None:
            return
        if found[1] is body:
            del self._latest[number]
        else:
            self._write(number)

    def _write_again(self) -> None:
        for number in list(self._latest):
            self._write(number)


def report_envelope(keys: Keyring, run: Attempt, body: bytes) -> bytes:
    """A reported result as it lies in the store: signed where a client will unpickle it."""
    if run.call is None or run.has_json_result:
        return body
    return keys.sign_result(payloads.pack_result(payloads.REPORTED, body), run.task_id)
