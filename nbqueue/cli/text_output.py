"""Lines and tables that the command line prints, made printable: they contain text of the store."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from nbqueue.printable import printable

_WIDTH = 200
"""The width of a table that is not printed to a terminal."""


def say(text: str, *, err: bool = False) -> None:
    """Print a line of text."""
    click.echo(printable(text), err=err)


def print_tabbed(cells: Sequence[str]) -> None:
    """Print cells on a line, with tabs between them."""
    click.echo("\t".join(map(printable, cells)))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], if_empty: str = "") -> None:
    """Print rows under a head, or ``if_empty`` if there are none.

    Cells fold at the width of the terminal. Elsewhere a table is wide, so that programs find each
    row on one line.
    """
    if not rows:
        click.echo(if_empty)
        return
    # Loaded late: rich is slow to import, and most commands print no table.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    table = Table(box=None, show_header=any(head), pad_edge=False)
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)


def print_columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a head, each as one line of aligned columns."""
    lines = [head, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
