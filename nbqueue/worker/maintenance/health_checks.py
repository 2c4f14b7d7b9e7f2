"""Calls the health check of a worker's owner: how the store is, every few seconds."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from typing import Any

from nbqueue.calls.keys.task_mark import executor_environment
from nbqueue.executor.signals import held_back
from nbqueue.runtime.interpreter import module_command
from nbqueue.runtime.reactor import Reactor
from nbqueue.transport.resp import ReplyError
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.settings import WorkerSettings

log = logging.getLogger("nbqueue.worker")


class HealthChecks:
    """Asks the store for a sign of life, and hands the answer to a process that runs the check.

    It does so while the store is away, too; that is when it matters. A check that takes longer
    than the interval misses those that come meanwhile, and nothing here waits for it.
    """

    def __init__(
        self, reactor: Reactor, links: WorkerConnections, settings: WorkerSettings
    ) -> None:
        self._reactor = reactor
        self._links = links
        self._service = settings.service
        self._interval = settings.health_check_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._is_waiting = False
        links.on_down.append(self._on_down)
        if self._interval:
            reactor.after(self._interval, self._tick)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.kill()
            process.wait()
            process.stdin.close()

    def _tick(self) -> None:
        self._reactor.after(self._interval, self._tick)
        link = self._links.upkeep
        if link is None:
            self._tell("the store is away")
        elif self._is_waiting:
            self._tell("the store does not answer")
        else:
            self._is_waiting = True
            link.call(("PING",), self._on_reply)

    def _on_reply(self, reply: Any) -> None:
        self._is_waiting = False
        self._tell(str(reply) if isinstance(reply, ReplyError) else "")

    def _on_down(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._tell("the connection to the store was lost")

    def _tell(self, why: str) -> None:
        if self._process is not None and self._process.poll() is not None:
            log.warning("health check died exit_code=%d", self._process.returncode)
            self.close()
        if self._process is None:
            self._process = self._spawn()
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), " ".join(why.split()).encode()[:1000] + b"\n")
        except OSError:
            pass  # it hangs, or is dying; the next time shows

    def _spawn(self) -> subprocess.Popen[bytes]:
        with tempfile.TemporaryFile() as file:
            file.write(self._service)
            file.flush()
            with held_back():
                process = subprocess.Popen(
                    module_command("nbqueue.executor.health_check", str(file.fileno())),
                    stdin=subprocess.PIPE,
                    bufsize=0,
                    env=executor_environment(os.environ),
                    pass_fds=(file.fileno(),),
                )
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        return process
