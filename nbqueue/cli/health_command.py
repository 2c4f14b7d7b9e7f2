"""``nbqueue health``: whether a worker is well, for whatever looks after containers."""

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
    help="How long ago the last sign of life may be; a worker gives one every 5 s.",
)
def health(file: str, within: float) -> None:
    """Exit with 0 if a worker is well, else with 1.

    FILE is what the worker was started with as --health-file. It is touched while the worker lives
    and its store answers. Nothing is asked of the store, so this may run often.

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
