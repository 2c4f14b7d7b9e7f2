"""``nbqueue health``: check a worker, for the health checks of containers."""

from __future__ import annotations

import os

import click

from nbqueue.cli.parameters import SPAN
from nbqueue.errors import NbqueueError


@click.command()
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--within",
    type=SPAN,
    default="20s",
    show_default=True,
    metavar="DURATION",
    help="The greatest age of the last sign of life; a worker gives one every 5 s.",
)
def health(file: str, within: float) -> None:
    """Exit with 0 if a worker is well, else with 1.

    FILE is the worker's --health-file, which it touches while its store answers. The store is not
    asked, so this may run often.

    \b
      nbqueue worker --health-file /tmp/worker
      nbqueue health /tmp/worker
    """
    from nbqueue.clock import Clock

    try:
        age = Clock().now() - os.stat(file).st_mtime
    except OSError as error:
        raise NbqueueError(f"no worker is well: {file}: {error.strerror}") from error
    if age > within:
        raise NbqueueError(f"no sign of life for {age:.0f} s: the worker or its store is away")
    click.echo(f"well: the last sign of life was {max(0, age):.0f} s ago")
