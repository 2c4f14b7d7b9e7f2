"""``nbqueue logs``: print the output of a task."""

from __future__ import annotations

import sys

import click

from nbqueue.cli.parameters import COUNT, url_option


@click.command("logs")
@click.argument("task", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Print new output until the task has ended.")
@click.option(
    "-a",
    "--attempt",
    type=COUNT,
    metavar="N",
    help="The attempt. [default: the last with any output]",
)
@url_option
def logs(task: str, follow: bool, attempt: int | None, url: str | None) -> None:
    """Print the output and logs of a task. ID is the id or the name of the task.

    Output to stderr goes to stderr. With --follow the exit code is 1 if the task failed.

    \b
    Examples:
      nbqueue logs train
      nbqueue logs -f 4f1C0aVXNnGaT7Kq2
    """
    from nbqueue.client.client import connect
    from nbqueue.client.results.output import write_text

    if follow and attempt is not None:
        raise click.UsageError("--follow shows the running attempt: leave --attempt out")
    with connect(url or None) as client:
        future = client.get(task)
        if not follow:
            write_text(future.output(attempt))
            return
        future.output(follow=True)
        failed = future.cancelled() or future.exception(0) is not None
        sys.exit(1 if failed else 0)
