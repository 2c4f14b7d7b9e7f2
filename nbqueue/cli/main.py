"""``nbqueue``: the command line.

Nothing heavy is imported up here, because ``nbqueue worker`` should run its first task at once.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import IO, Any, TextIO

import click

from nbqueue import __version__
from nbqueue.errors import NbqueueError, UsageError
from nbqueue.names import did_you_mean
from nbqueue.printable import printable, shown


class _ShownError(click.ClickException):
    """An error of nbqueue, shown as one red line without a traceback."""

    def show(self, file: IO[Any] | None = None) -> None:
        line = printable(" ".join(self.message.split()))
        click.echo(click.style("Error: ", fg="red", bold=True) + line, file=file, err=True)


class _ShownUsageError(_ShownError):
    """An error in an argument, which ends with click's exit code for such errors."""

    exit_code = 2


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning as one line, without the place in the code."""
    text = printable(" ".join(str(message).split()))
    click.echo(click.style("Warning: ", fg="yellow", bold=True) + text, err=True)


_HOMES = {
    "demo": "demo",
    "drain": "worker_command",
    "groups": "group_commands",
    "health": "health_command",
    "latency": "latency_command",
    "logs": "logs_command",
    "queue": "inspect_commands",
    "schedule": "schedule_commands",
    "store": "store_commands",
    "task": "inspect_commands",
    "worker": "worker_command",
}


_QUEUE_OPTIONS = ("-q", "--queue")


class _Commands(click.Group):
    """A group that loads its commands when they are used, and shows the errors they raise."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_HOMES])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = _HOMES.get(cmd_name)
        if home is None:
            return super().get_command(ctx, cmd_name)
        found: click.Command = getattr(import_module(f"nbqueue.cli.{home}"), cmd_name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            # click knows only the commands that are loaded.
            question = did_you_mean(args[0], self.list_commands(ctx))
            if not question:
                raise
            ctx.fail(f"No such command {shown(args[0])}. {question[:1].upper()}{question[1:]}")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for before, arg in zip(["", *args], args, strict=False):
            # A queue may have any name that a program in Go gave it.
            is_queue = before in _QUEUE_OPTIONS or args[:1] == ["queue"]
            if not is_queue and any("\ud800" <= character <= "\udfff" for character in arg):
                raise click.UsageError(
                    f"{shown(arg)} is not text in UTF-8, as names, ids and files must be: copy it "
                    "from a list of this program, or check the encoding of the terminal",
                    ctx,
                )
        return super().parse_args(ctx, args)

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


if __name__ == "__main__":
    main()
