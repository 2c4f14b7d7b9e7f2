"""Call the user's health check every few seconds with the store's state."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from typing import Any

from nbqueue.calls.keys.task_mark import executor_environment
from nbqueue.executor.signals import held_back
from nbqueue.runtime.interpreter import module_command
from nbqueue.transport.resp import ReplyError
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.settings import WorkerSettings

log = logging.getLogger("nbqueue.worker")


class HealthChecks:
    """Pings the store, and passes the result to the health check's process.

    Checks also run while the store is unreachable. Nothing waits for a check; one that takes longer
    than the interval misses the results of that time.
    """

    def __init__(self, context: ServiceContext, settings: WorkerSettings) -> None:
        self._reactor = context.reactor
        self._connections = context.connections
        self._service = settings.service
        self._interval = settings.health_check_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._is_waiting = False
        context.connections.on_down.append(self._on_down)
        if self._interval:
            context.reactor.after(self._interval, self._tick)

    def close(self) -> None:
        """Kill the process that runs the check."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.kill()
            process.wait()
            process.stdin.close()

    def _tick(self) -> None:
        self._reactor.after(self._interval, self._tick)
        connection = self._connections.registry()
        if not connection.is_up:
            self._report("the store is away")
        elif self._is_waiting:
            self._report("the store does not answer")
        else:
            self._is_waiting = True
            connection.call(("PING",), self._on_reply)

    def _on_reply(self, reply: Any) -> None:
        self._is_waiting = False
        self._report(str(reply) if isinstance(reply, ReplyError) else "")

    def _on_down(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._report("the connection to the store was lost")

    def _report(self, why: str) -> None:
        """Pass on the reason why the store is not well, or an empty one."""
        if self._process is not None and self._process.poll() is not None:
            log.warning("health check died exit_code=%d", self._process.returncode)
            self.close()
        if self._process is None:
            self._process = self._spawn()
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), " ".join(why.split()).encode()[:1000] + b"\n")
        except OSError:
            pass  # it hangs or is ending, which the next report finds out

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
