"""`Worker`: a worker as its owner sees it."""

from __future__ import annotations

import base64
import inspect
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import update_wrapper
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec, TypeVar

from nbqueue.calls.functions import dump_function
from nbqueue.checks import INT32, is_whole
from nbqueue.durations import Duration, parse_duration
from nbqueue.errors import InvalidURL, UsageError, WorkerDidNotStart
from nbqueue.printable import shown
from nbqueue.runtime.interpreter import module_command
from nbqueue.runtime.notebook_kernel import is_kernel
from nbqueue.runtime.notify_socket import without_notify_socket
from nbqueue.store.default_store import default_url
from nbqueue.store.url import parse_url
from nbqueue.tasks.message_handlers import HandlerService, Middleware, is_async
from nbqueue.tasks.periodic import Periodic
from nbqueue.tasks.retry_policy import make_policy
from nbqueue.tasks.task import Task
from nbqueue.worker.lifecycle.kernel_log import new_log
from nbqueue.worker.settings import WorkerOptions, WorkerSettings
from nbqueue.worker.wiring import build_worker

P = ParamSpec("P")
W = TypeVar("W")


@dataclass(frozen=True, repr=False, kw_only=True)
class _Arguments(WorkerOptions):
    """All options of `Worker`."""

    log: str | Path | None = None
    retry_delay: Any = None
    retry_on: Any = None
    is_failure: Callable[[BaseException], bool] | None = None
    health_check: Callable[[Exception | None], Any] | None = None


_Arguments.__init__.__qualname__ = "Worker.__init__"
"""Named in Python's messages about unknown arguments."""


def taking(
    make: Callable[P, _Arguments],
) -> Callable[[Callable[[W, _Arguments], None]], Callable[Concatenate[W, P], None]]:
    """Give a method the signature of ``make``, for people, type checkers and `help`."""

    def decorate(method: Callable[[W, _Arguments], None]) -> Callable[Concatenate[W, P], None]:
        def call(self: W, /, *args: P.args, **kwargs: P.kwargs) -> None:
            method(self, make(*args, **kwargs))

        update_wrapper(call, method)
        parameters = inspect.signature(make).parameters.values()
        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        call.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]
        return call

    return decorate


class Worker:
    """A worker: it takes tasks from queues and runs them.

    It runs in this process, until a signal ends it::

        nbqueue.Worker(queues={"critical": 6, "default": 3}, concurrency=8).run()

    or as a process of its own, which a notebook starts and stops::

        with nbqueue.Worker(concurrency=2) as worker:
            q.submit(f).result()

    Messages, from programs in Go or from ``q.enqueue``, are run by handlers::

        worker = nbqueue.Worker()

        @worker.handle("email:")
        def deliver(task):
            send(task.json()["user"])

    The options are those of `WorkerOptions` in `nbqueue.worker.settings`, where each is described,
    and a few more:

    - ``log`` is a file for the output of a started worker and its tasks; None: this process's own
      output, or in a notebook, whose cells would show that, a file in the user's state folder,
      which `stop` deletes. It is the attribute ``log`` of the started worker.
    - ``retry_delay``, ``retry_on`` and ``is_failure`` hold for tasks that do not set these
      themselves: see `nbqueue.tasks.retry_policy.make_policy`.
    - ``health_check`` is called every ``health_check_interval``, in a process of its own, with
      None, or with an exception while the store does not answer.

    Raises `UsageError` for invalid options.
    """

    @taking(_Arguments)
    def __init__(self, arguments: _Arguments) -> None:
        policy = make_policy(arguments.retry_delay, arguments.retry_on, arguments.is_failure)
        self._service = HandlerService(policy=policy)
        self.settings = WorkerSettings.of(arguments)
        self._id: str | None = None
        if arguments.health_check is not None:
            self._service.health_check = _function(arguments.health_check, "a health check")
            if not self.settings.health_check_interval:
                raise UsageError(
                    f"health_check_interval={shown(self.settings.health_check_interval)} must be "
                    "over 0"
                )
        if arguments.log is not None and not isinstance(arguments.log, str | os.PathLike):
            raise UsageError(f"log={shown(arguments.log)} must be the path of a file")
        self.log = Path(arguments.log) if arguments.log is not None else None
        self._own_log: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._providers: list[tuple[str, float]] = []

    def handle(self, pattern: str, fn: Callable[[Task], Any] | None = None) -> Any:
        """Run messages whose type is ``pattern``, or begins with it, by ``fn``.

        An exact match goes first, then the longest pattern, as in Asynq's ServeMux. ``fn`` gets a
        `Task` and may be a coroutine function; its return value is the result (bytes as they are,
        None as nothing, anything else as JSON). Without ``fn`` this is a decorator. Raises
        `UsageError` for a blank pattern or one that has a handler.
        """
        if fn is None:

            def decorate(fn: Callable[[Task], Any]) -> Callable[[Task], Any]:
                self._service.handlers.add(pattern, _function(fn, "a handler"))
                return fn

            return decorate
        self._service.handlers.add(pattern, _function(fn, "a handler"))
        return fn

    def aggregate(self, fn: Callable[[str, list[Task]], Any]) -> Callable[[str, list[Task]], Any]:
        """Turn an aggregation group into one task by ``fn(group, tasks)``.

        This is a decorator. ``fn`` gets the name of the group and its tasks, oldest first, returns
        the `Message` that takes their place, and may be a coroutine function. The options
        ``group_grace_period``, ``group_max_delay`` and ``group_max_size`` decide when it is called.
        If it fails, the tasks stay in their group and it is called again later. Raises
        `UsageError` if the worker has an aggregator already.

        >>> @worker.aggregate
        ... def digest(group, tasks):
        ...     return nbqueue.Message("email:digest", [task.json() for task in tasks])
        """
        if self._service.aggregator is not None:
            raise UsageError("this worker has an aggregator: one function gets all groups")
        self._service.aggregator = _function(fn, "an aggregator")
        return fn

    def use(self, *middleware: Middleware) -> Worker:
        """Wrap all handlers; each middleware takes a handler and returns one.

        The first registered is outermost. To wrap coroutine functions as well, return the result
        of the inner handler, or await it.
        """
        self._service.middleware += [_function(each, "a middleware") for each in middleware]
        return self

    def on_start(self, hook: Callable[[], Any]) -> Callable[[], Any]:
        """Call ``hook`` in each executor before its first task.

        For example to open a connection.
        """
        self._service.on_start.append(_function(hook, "a hook"))
        return hook

    def on_stop(self, hook: Callable[[], Any]) -> Callable[[], Any]:
        """Call ``hook`` in each executor when it ends, unless it is killed."""
        self._service.on_stop.append(_function(hook, "a hook"))
        return hook

    def on_error(self, hook: Callable[[Task, BaseException], Any]) -> Any:
        """Call ``hook(task, error)`` in the executor after each attempt that failed."""
        self._service.on_error.append(_function(hook, "a hook"))
        return hook

    def periodic(
        self,
        provider: Callable[[], Iterable[Periodic]],
        sync_interval: Duration = "3m",
        *,
        name: str | None = None,
    ) -> Worker:
        """Keep the schedules that ``provider`` returns; it is called every ``sync_interval``.

        It returns a list of `nbqueue.Periodic`. New ones are added as schedules, and schedules that
        it does not return any more are removed; if it raises, or returns anything else, nothing
        changes. It runs in an executor. Workers whose providers have the same ``name`` (default:
        the function's) keep the same schedules. Raises `UsageError`.
        """
        _function(provider, "a provider")
        if is_async(provider):
            raise UsageError(f"{shown(provider)} is a coroutine function, which no provider can be")
        seconds = parse_duration(sync_interval, "sync_interval")
        if seconds < 1:
            raise UsageError(f"sync_interval={shown(sync_interval)} must be 1 s or more")
        known = name if name is not None else getattr(provider, "__qualname__", "")
        if not isinstance(known, str) or not known or known in self._service.providers:
            raise UsageError(f"name={shown(known)} is empty, or there is such a provider already")
        self._service.providers[known] = provider
        self._providers.append((known, seconds))
        return self

    def _settings_now(self) -> WorkerSettings:
        """Return the settings with everything that was registered until now."""
        service = self._service
        if service.is_empty:
            return self.settings
        handlers = service.handlers.items()
        return replace(
            self.settings,
            service=dump_function(service).blob,
            providers=tuple(self._providers),
            patterns=tuple((pattern, is_async(handler)) for pattern, handler in handlers),
            aggregates=service.aggregator is not None,
            aggregator_is_async=service.aggregator is not None and is_async(service.aggregator),
            has_health_check=service.health_check is not None,
        )

    def run(self) -> int:
        """Serve in this process until SIGTERM or SIGINT; return the exit code.

        The code is 0, or 1 after a failure.

        Only in the main thread, as it handles signals. It waits for an unreachable store for up to
        ``wait`` (a minute by default). Raises `StoreError` if the store cannot be used.
        """
        return build_worker(self._settings_now()).run()

    def start(self, timeout: float = 30.0) -> Worker:
        """Start the worker as a separate process; return when it is ready.

        It ends with `stop`, and otherwise outlives this process. Starting a running worker does
        nothing. An unreachable store is an error at once, or after ``wait`` if that was set, which
        ``timeout`` (seconds) does not include. Raises `WorkerDidNotStart` with the reason if the
        worker ends instead.
        """
        seconds = parse_duration(timeout, "timeout")
        if self.is_running:
            return self
        if self.log is None and is_kernel():
            self.log = self._own_log = new_log()
        reader, writer = os.pipe()
        output: IO[bytes] | None = open(self.log, "ab") if self.log else None  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                module_command("nbqueue.worker", str(writer)),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(writer,),
                env=without_notify_socket(os.environ),
                start_new_session=True,
            )
        finally:
            os.close(writer)
            if output is not None:
                output.close()
        assert self._process.stdin is not None
        now = self._settings_now()
        now = replace(now, wait=0.0 if now.wait is None else now.wait)
        settings = {**asdict(now), "service": base64.b64encode(now.service).decode()}
        self._process.stdin.write(json.dumps(settings).encode())
        self._process.stdin.close()
        with open(reader, "rb") as answers:
            self._wait_until_ready(answers, seconds + now.wait_seconds)
        return self

    def _wait_until_ready(self, answers: IO[bytes], timeout: float) -> None:
        import select

        ready, _, _ = select.select([answers], [], [], timeout)
        said = answers.read() if ready else b""
        word, _, worker_id = said.partition(b" ")
        if word == b"ready":
            self._id = worker_id.decode()
            return
        process = self._process
        assert process is not None
        process.kill()
        process.wait()
        self._process = None
        if not ready:
            raise WorkerDidNotStart(f"the worker was not ready within {timeout} s")
        raise WorkerDidNotStart("the worker did not start: " + said.decode("utf-8", "replace"))

    def stop(self, timeout: float | None = None) -> None:
        """End the started worker, if it runs.

        Running tasks may end within its shutdown time-out; others go back to their queues. After
        ``timeout`` more seconds it is killed.
        """
        more = 10.0 if timeout is None else parse_duration(timeout, "timeout")
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            patience = self.settings.shutdown_seconds + more
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if self._own_log is not None:
                self._own_log.unlink(missing_ok=True)
                self.log = self._own_log = None

    @property
    def id(self) -> str | None:
        """The id of the started worker, ``host:pid:…``, or None."""
        return self._id if self.is_running else None

    def add_queue(self, name: str, weight: int = 1) -> None:
        """Serve another queue with the started worker, or change a weight.

        Raises `UsageError` if it is not running, `StoreError` if it does not answer.
        """
        if not is_whole(weight, 1, INT32):
            raise UsageError(f"weight={shown(weight)} must be 1 or more")
        self._change_queues({name: weight})

    def remove_queue(self, name: str) -> None:
        """Fetch no more from a queue with the started worker.

        Tasks that it has already still end.

        The last queue cannot be removed. Raises the errors of `add_queue`.
        """
        self._change_queues({name: 0})

    def _change_queues(self, changes: dict[str, int]) -> None:
        from nbqueue.broker.broker import Broker
        from nbqueue.broker.commands.presence import change_queues
        from nbqueue.store.connection import connect

        worker_id = self.id
        if worker_id is None:
            raise UsageError("the worker is not running: start() it first")
        store = connect(self.settings.url)
        broker = Broker(store)
        try:
            change_queues(broker, worker_id, changes)
        finally:
            broker.close()
            store.close()

    @property
    def is_running(self) -> bool:
        """True if the started worker's process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id of the started worker's supervisor, or None."""
        return self._process.pid if self._process is not None else None

    def executor_pids(self) -> list[int]:
        """The process ids of its executors, oldest first."""
        import psutil

        if not self.is_running or self.pid is None:
            return []
        children = [
            child
            for child in psutil.Process(self.pid).children()
            if "nbqueue.executor.health_check" not in child.cmdline()
        ]
        return [child.pid for child in sorted(children, key=lambda child: child.create_time())]

    def __enter__(self) -> Worker:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"running pid={self.pid}" if self.is_running else "not running"
        settings = self.settings
        queues = ", ".join(settings.queues)
        return (
            f"<Worker {state} store={self._place} queues={queues} "
            f"concurrency={settings.concurrency}{f' log={self.log}' if self.log else ''}>"
        )

    @property
    def _place(self) -> str:
        """The store, without passwords."""
        url = self.settings.url
        try:
            return (default_url() if url is None else parse_url(url)).place
        except (InvalidURL, OSError):
            return "unknown"  # NBQUEUE_URL is invalid, or the current folder is gone

    def _repr_html_(self) -> str:
        from nbqueue.views.static_cards import WorkerFacts, worker_card

        settings, log = self.settings, str(self.log) if self.log else None
        return worker_card(
            WorkerFacts(
                self.is_running,
                self.pid,
                dict(settings.queues),
                settings.concurrency,
                settings.executor,
                log,
                self._place,
            )
        )

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Worker is a process here and does not travel; start one where you need it"
        )


def _function(fn: Any, what: str) -> Any:
    if not callable(fn):
        raise UsageError(f"{shown(fn)} is not a function, as {what} must be")
    return fn
