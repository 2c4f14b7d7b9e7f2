"""``nbqueue``: the command line.

Nothing heavy is imported up here, because ``nbqueue worker`` should run its first task at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from typing import IO, Any, TextIO

import click

from nbqueue import __version__
from nbqueue.cli.parameters import COUNT, QUEUE, SIZE, SPAN, url_option
from nbqueue.errors import NbqueueError, UsageError
from nbqueue.printable import visible


class _ShownError(click.ClickException):
    """An error of ours as a person should see it: one red line, and no traceback."""

    def show(self, file: IO[Any] | None = None) -> None:
        line = visible(" ".join(self.message.split()))
        click.echo(click.style("Error: ", fg="red", bold=True) + line, file=file, err=True)


class _ShownUsageError(_ShownError):
    """The same for an argument that cannot be right, with the exit code that click gives those."""

    exit_code = 2


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning as a person should see it: one line, without a place in the code."""
    text = visible(" ".join(str(message).split()))
    click.echo(click.style("Warning: ", fg="yellow", bold=True) + text, err=True)


_HOMES = {
    "demo": "demo",
    "health": "health_command",
    "logs": "logs_command",
    "queue": "inspect_commands",
    "schedule": "schedule_commands",
    "store": "store_commands",
    "task": "inspect_commands",
}


class _Commands(click.Group):
    """A group whose commands may raise our errors. Most are loaded when they are wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_HOMES])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = _HOMES.get(cmd_name)
        if home is None:
            return super().get_command(ctx, cmd_name)
        found: click.Command = getattr(import_module(f"nbqueue.cli.{home}"), cmd_name)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except UsageError as error:
                raise _ShownUsageError(str(error)) from error
            except NbqueueError as error:
                raise _ShownError(str(error)) from error


_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=_Commands, context_settings=_CONTEXT)
@click.version_option(__version__, "-V", "--version", prog_name="nbqueue")
def main() -> None:
    """Run Python functions from notebooks and scripts on background workers.

    A worker takes tasks from a store and runs them. Start one, then submit a function:

    \b
      nbqueue worker                                # in a terminal; Ctrl-C ends it
      >>> import nbqueue                            # in a notebook or a script
      >>> q = nbqueue.connect()
      >>> q.submit(sum, [1, 2, 3]).result()

    Without any set-up both use an embedded store that belongs to the project around the current
    folder. For another store pass --url, or set NBQUEUE_URL for both sides.
    """


@main.command()
@click.option(
    "-q",
    "--queue",
    "queues",
    type=QUEUE,
    multiple=True,
    metavar="NAME[=WEIGHT]",
    help="A queue to serve, and how often compared with the others; repeatable. [default: default]",
)
@click.option(
    "-c",
    "--concurrency",
    type=COUNT,
    metavar="N",
    help="How many tasks run at once. [default: the number of CPUs]",
)
@click.option(
    "--executor",
    type=click.Choice(["process", "thread"]),
    default="process",
    show_default=True,
    help="Run tasks in processes of their own, or in threads (for work that mostly waits).",
)
@url_option
@click.option(
    "--strict",
    is_flag=True,
    help="Serve a queue only while all queues of greater weight are empty.",
)
@click.option(
    "--shutdown-timeout",
    type=SPAN,
    default="8s",
    show_default=True,
    metavar="DURATION",
    help="How long running tasks may go on after Ctrl-C or SIGTERM; then they go back to their "
    "queues.",
)
@click.option(
    "--lease",
    type=SPAN,
    default="30s",
    show_default=True,
    metavar="DURATION",
    help="After how long without a sign of life other workers take over its tasks.",
)
@click.option(
    "--wait",
    type=SPAN,
    default="60s",
    show_default=True,
    metavar="DURATION",
    help="How long to wait at the start for a store that is away; 0: fail at once.",
)
@click.option(
    "--tasks-per-executor",
    type=COUNT,
    metavar="N",
    help="Replace an executor after so many tasks. [default: never]",
)
@click.option(
    "--memory-per-executor",
    type=SIZE,
    metavar="SIZE",
    help='Replace an executor once it has used so much memory, such as "512MB". [default: never]',
)
@click.option(
    "--burst",
    is_flag=True,
    help="End when all queues are empty and nothing is due within a second.",
)
@click.option(
    "--idle-timeout",
    type=SPAN,
    help='End after so long without a task, such as "30m". [default: never]',
)
@click.option(
    "--health-file",
    type=click.Path(dir_okay=False),
    metavar="PATH",
    help="A file that is touched every 5 s while the worker is well and the store answers.",
)
@click.option(
    "--scheduler/--no-scheduler",
    default=True,
    show_default=True,
    help="Whether it fires the schedules of its queues when they are due.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    help="debug: a line for each task; info: what a person wants to know.",
)
def worker(
    queues: tuple[tuple[str, int], ...],
    concurrency: int | None,
    executor: str,
    url: str | None,
    strict: bool,
    shutdown_timeout: float,
    lease: float,
    wait: float,
    tasks_per_executor: int | None,
    memory_per_executor: int | None,
    burst: bool,
    idle_timeout: float | None,
    health_file: str | None,
    scheduler: bool,
    log_level: str,
) -> None:
    """Run tasks until Ctrl-C.

    \b
    Examples:
      nbqueue worker
      nbqueue worker -q critical=6 -q default=3 -c 8
      nbqueue worker --url redis://redis.example:6379/0
      nbqueue worker --memory-per-executor 2GB --shutdown-timeout 10m

    The first Ctrl-C (or SIGTERM) lets running tasks end, for up to the shutdown time-out, and the
    second ends at once; unfinished tasks go back to their queues. SIGTSTP (Ctrl-Z) stops fetching,
    to drain the worker before SIGTERM: nothing resumes it, SIGCONT neither. SIGHUP ends
    like the first Ctrl-C, unless under nohup; SIGQUIT shows where its tasks are. It logs to stderr.
    Set a URL with a password as NBQUEUE_URL: other users of the machine can see the arguments of a
    command.
    """
    weights = dict(queues) or {"default": 1}
    if len(weights) < len(queues):
        raise UsageError("a queue is named twice by -q: name each once, with its weight")
    from nbqueue.worker.executors.spawn import prepared

    count = concurrency or os.cpu_count() or 1
    # Executors take as long to start as what is imported next.
    with prepared(executor, count):
        from nbqueue.worker.worker import Worker

        chosen = Worker(
            url or None,
            queues=weights,
            concurrency=count,
            executor=executor,
            strict_priority=strict,
            shutdown_timeout=shutdown_timeout,
            lease=lease,
            wait=wait,
            tasks_per_executor=tasks_per_executor,
            memory_per_executor=memory_per_executor,
            burst=burst,
            idle_timeout=idle_timeout,
            health_file=health_file,
            log_level=log_level.lower(),
            scheduler=scheduler,
        )
        _log_to_stderr(log_level)
        code = chosen.run()
    sys.exit(code)


def _log_to_stderr(level: str) -> None:
    import logging

    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(levelname)-7s %(asctime)s  %(message)s",
        datefmt="%H:%M:%S",
    )
    logging.getLogger("nbqueue.worker").info("nbqueue %s; Ctrl-C ends this worker", __version__)


if __name__ == "__main__":
    main()
