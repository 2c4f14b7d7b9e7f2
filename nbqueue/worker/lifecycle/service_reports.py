"""Report a worker's state to systemd: ready, alive, ending."""

from __future__ import annotations

from nbqueue.durations import format_duration
from nbqueue.runtime.notify_socket import NotifySocket
from nbqueue.worker.executors.waiting_attempts import WaitingAttempts
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.settings import WorkerSettings

_INTERVAL = 5.0
_SHORTEST_INTERVAL = 0.05
_PER_WATCHDOG = 3
"""Signs of life within the time after which systemd kills the worker."""
_SPARE_SECONDS = 15
"""Seconds for a start or an end, beyond the time-outs of the worker."""


class ServiceReports:
    """Sends the state every 5 s, or more often if a watchdog asks for that.

    A sign of life means that the event loop turns. It does not depend on the store: a restart would
    only interrupt running tasks while the store is away. Each report has the whole state, so that a
    lost one does no harm.
    """

    def __init__(
        self,
        context: ServiceContext,
        waiting: WaitingAttempts,
        settings: WorkerSettings,
        notify_socket: NotifySocket,
    ) -> None:
        self._reactor = context.reactor
        self._connections = context.connections
        self._waiting = waiting
        self._settings = settings
        self._socket = notify_socket
        self._state: tuple[str, ...] = ()
        self._is_paused = False
        self._limit = ""
        watchdog = notify_socket.watchdog_seconds
        self._signs = ("WATCHDOG=1",) if watchdog else ()
        self._interval = _INTERVAL
        if watchdog:
            self._interval = max(min(_INTERVAL, watchdog / _PER_WATCHDOG), _SHORTEST_INTERVAL)
        if notify_socket.is_there:
            context.reactor.after(0.0, self._tick)

    def ready(self) -> None:
        """Report that the worker takes tasks."""
        if not self._state:
            self._state = ("READY=1",)
            self.report()

    def paused(self) -> None:
        """Report that the worker fetches no more tasks."""
        self._is_paused = True
        self.report()

    def ending(self) -> None:
        """Report that the worker ends, after its tasks."""
        self._state = ("STOPPING=1", extend_timeout(self._interval))  # with each report
        self.report()

    def set_limit(self, seconds: float) -> None:
        """Report that the worker ends after ``seconds`` at the latest."""
        self._limit = format_duration(seconds)
        self._state = ("STOPPING=1",)
        seconds += self._settings.kill_grace_seconds
        self._socket.send(*self._state, extend_timeout(seconds))
        self.report()

    def report(self) -> None:
        """Send the state, with a line for ``systemctl status``."""
        self._socket.send(*self._state, *self._signs, f"STATUS={self._status()}")

    def _tick(self) -> None:
        self._reactor.after(self._interval, self._tick)
        self.report()

    def _status(self) -> str:
        tasks = self._waiting.in_hand
        if "STOPPING=1" in self._state:
            return f"ends after {tasks} tasks" + (f", or {self._limit}" if self._limit else "")
        store = "" if self._connections.is_up else "; the store is away"
        if self._is_paused:
            return f"fetches no more tasks; {tasks} still run{store}"
        return f"has {tasks} tasks, runs {self._settings.concurrency} at once{store}"


def report_start(notify_socket: NotifySocket, wait_seconds: float) -> None:
    """Report that a worker connects, and how long it may wait for its store."""
    notify_socket.send("STATUS=connects to its store", extend_timeout(wait_seconds))


def extend_timeout(seconds: float) -> str:
    """Return the line that extends the current time-out of systemd to ``seconds`` and a little."""
    return f"EXTEND_TIMEOUT_USEC={round((seconds + _SPARE_SECONDS) * 1e6)}"
