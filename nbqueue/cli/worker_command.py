"""``nbqueue worker`` and ``nbqueue drain``: run tasks in this process, and end workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import click

from nbqueue import __version__
from nbqueue.cli.parameters import COUNT, QUEUE, SIZE, SPAN, Choice, url_option
from nbqueue.cli.text_output import say
from nbqueue.errors import UsageError
from nbqueue.names import did_you_mean
from nbqueue.printable import shown
from nbqueue.worker.option_checks import executor_range
from nbqueue.worker.settings import CommandLine, command_line_options

_TYPES: Final[dict[str, Any]] = {
    "count": COUNT,
    "duration": SPAN,
    "file": click.Path(dir_okay=False),
    "queues": QUEUE,
    "range": click.STRING,
    "size": SIZE,
}
_METAVARS: Final = {"count": "N", "duration": "DURATION", "file": "PATH", "size": "SIZE"}

Command = Callable[..., Any]


def _worker_options(command: Command) -> Command:
    """Add the options that `nbqueue.worker.settings` declares."""
    for name, default, spelling in reversed(list(command_line_options())):
        add = url_option if spelling.kind == "url" else _option(name, default, spelling)
        command = add(command)
    return command


def _option(name: str, default: Any, spelling: CommandLine) -> Callable[[Command], Command]:
    flags = spelling.flags or ("--" + name.replace("_", "-"),)
    more: dict[str, Any] = {"help": spelling.help}
    if spelling.kind == "flag":
        return click.option(name, *flags, is_flag=True, **more)
    if spelling.kind == "queues":
        more["multiple"] = True
    else:
        more["default"] = _shown_default(default, spelling)
        more["show_default"] = more["default"] is not None
    if spelling.kind == "choice":
        more["type"] = Choice(spelling.choices, case_sensitive=False)
    elif spelling.kind != "switch":
        more["type"] = _TYPES[spelling.kind]
    more["metavar"] = spelling.metavar or _METAVARS.get(spelling.kind)
    return click.option(name, *flags, **more)


def _shown_default(default: Any, spelling: CommandLine) -> Any:
    if spelling.default is not None:
        return spelling.default
    return f"{default:g}s" if spelling.kind == "duration" and default is not None else default


@click.command()
@_worker_options
def worker(queues: Iterable[tuple[str, int]], url: str | None, **options: Any) -> None:
    """Run tasks until Ctrl-C.

    \b
    Examples:
      nbqueue worker
      nbqueue worker -q critical=6 -q default=3 -c 8
      nbqueue worker --autoscale 1..8
      nbqueue worker --url redis://redis.example:6379/0
      nbqueue worker --memory-per-executor 2GB --shutdown-timeout 10m

    The first Ctrl-C (or SIGTERM) lets running tasks end, for up to the shutdown time-out, and the
    second ends at once; unfinished tasks go back to their queues. SIGTSTP (Ctrl-Z) stops fetching,
    to drain the worker before SIGTERM: nothing resumes it, SIGCONT neither (see also nbqueue
    drain). SIGHUP ends
    like the first Ctrl-C, unless under nohup; SIGQUIT shows where its tasks are. It logs to stderr.
    Set a URL with a password as NBQUEUE_URL: other users of the machine can see the arguments of a
    command.
    """
    weights = dict(queues) or {"default": 1}
    if len(weights) < len(list(queues)):
        raise UsageError("a queue is named twice by -q: name each once, with its weight")
    from nbqueue.worker.executors.spawn import prepared

    scale = executor_range("--autoscale", options["autoscale"])
    if scale is None:
        options["concurrency"] = options["concurrency"] or os.cpu_count() or 1
    # Executors take as long to start as the modules that are imported next.
    with prepared(options["executor"], scale[0] if scale else options["concurrency"]):
        from nbqueue.worker.worker import Worker

        chosen = Worker(url or None, queues=weights, **options)
        _log_to_stderr(options["log_level"])
        code = chosen.run()
    sys.exit(code)


def _log_to_stderr(level: str) -> None:
    import logging

    text = "%(levelname)-7s %(asctime)s  %(message)s"
    if _is_journal():
        for number, priority in ((50, 2), (40, 3), (30, 4), (20, 6), (10, 7)):
            logging.addLevelName(number, f"<{priority}>")
        text = "%(levelname)s%(message)s"  # the journal has the time
    logging.basicConfig(
        stream=sys.stderr, level=getattr(logging, level.upper()), format=text, datefmt="%H:%M:%S"
    )
    logging.getLogger("nbqueue.worker").info("nbqueue %s; Ctrl-C ends this worker", __version__)


def _is_journal() -> bool:
    """Return whether the standard error leads to systemd's journal."""
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return stream == f"{found.st_dev}:{found.st_ino}"


@click.command()
@click.argument("workers", nargs=-1, required=True, metavar="WORKER...")
@url_option
def drain(workers: Sequence[str], url: str | None) -> None:
    """Have workers fetch nothing more, finish their tasks, however long they take, and end.

    WORKER is the id of a worker, or the name of a host, for all of its workers. Returns when the
    workers have stopped fetching. SIGTERM then ends them after their shutdown time-out.

    \b
    Examples:
      nbqueue drain gpu-7
      nbqueue drain gpu-7:4711:9f3c0a5be1d24c07a8f6b2c1
    """
    from nbqueue.broker.broker import Broker
    from nbqueue.broker.commands.presence import drain_worker
    from nbqueue.broker.reads.asynq_records import AsynqRecords
    from nbqueue.store.connection import connect

    store = connect(url or None)
    broker = Broker(store)
    try:
        servers = AsynqRecords(broker).servers()
        hosts = {f"{each.host}:{each.pid}:{each.id}": each.host for each in servers}
        chosen: dict[str, None] = {}
        for name in workers:
            found = [each for each, host in hosts.items() if name in (each, host)]
            if not found:
                question = did_you_mean(name, [*hosts, *hosts.values()])
                more = f": {question}" if question else ", or they are at another store"
                raise UsageError(f"no worker has the id or host {shown(name)}{more}")
            chosen.update(dict.fromkeys(found))
        for worker_id in chosen:
            running = drain_worker(broker, worker_id)
            say(f"{worker_id} ends after {running} {'task' if running == 1 else 'tasks'}")
    finally:
        broker.close()
        store.close()
