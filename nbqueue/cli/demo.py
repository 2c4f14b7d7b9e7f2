"""``nbqueue demo``: start the demonstration as a program of its own."""

from __future__ import annotations

import os
import sys

import click

from nbqueue.runtime.interpreter import module_command


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True),
    default="nbqueue-demo-timeline.png",
    show_default=True,
    help="The file for the picture of the run.",
)
def demo(output: str) -> None:
    """Search for the best classifier of handwritten digits, on two workers.

    Cross-validates 16 models on scikit-learn's 1,797 images: 48 fits, each a task. In mid-run one
    of the processes that run them is killed; the search finishes all the same. It takes about
    a minute, uses its own store, and cleans up. Needs: pip install scikit-learn matplotlib
    """
    # The fit has to be a function of __main__, as in a script or a notebook of a user. So the
    # demonstration is a program, which replaces this one.
    sys.stdout.flush()
    command = module_command("nbqueue.cli.demo_script", output)
    os.execv(sys.executable, command)
