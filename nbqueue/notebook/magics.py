"""The magic ``%nbqueue``: parses a line, runs its command, completes words."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

from nbqueue.client.obstacles.remedies import register_magic, unregister_magic
from nbqueue.errors import NbqueueError, UsageError
from nbqueue.notebook import magic_actions
from nbqueue.notebook.magic_arguments import (
    HelpWanted,
    make_parser,
    parse_line,
    worker_options,
)
from nbqueue.notebook.magic_completion import completions
from nbqueue.notebook.string_completion import offer_names

if TYPE_CHECKING:
    from nbqueue.client.client import Client
    from nbqueue.store.url import StoreURL

_PARSER = make_parser()


class NbqueueMagics:
    """The magic of one shell, with the client that it uses."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The client of the last ``connect``, else the notebook's ``q``, else a new one."""
        from nbqueue.client.client import Client, connect

        if self._client is None or not self._client._session.is_open:
            named = self._shell.user_ns.get("q")
            self._client = named if isinstance(named, Client) else connect()
        return self._client

    def store_url(self) -> StoreURL | None:
        """Return the store of `client`, or None for the default one; connects to nothing."""
        from nbqueue.client.client import Client

        named = self._shell.user_ns.get("q")
        for client in (self._client, named):
            if isinstance(client, Client) and client._session.is_open:
                return client._session.store.url
        return None

    def run(self, line: str) -> Any:
        """Run one line. The cell shows the value that it returns."""
        from IPython.core.error import UsageError as ShownUsageError

        try:
            args = parse_line(_PARSER, line)
            return self._commands()[args.command or "status"](args)
        except HelpWanted as wanted:
            print(wanted)  # noqa: T201 (the help text)
        except UsageError as error:
            raise ShownUsageError(str(error)) from None
        except NbqueueError as error:
            raise ShownUsageError(f"{type(error).__name__}: {error}") from None
        return None

    def _commands(self) -> dict[str, Any]:
        return {
            "up": self._up,
            "down": lambda args: magic_actions.down(self.client),
            "restart": self._restart,
            "status": lambda args: magic_actions.status(self.client),
            "panel": lambda args: self.client.panel(read_only=args.read_only),
            "tasks": self._tasks,
            "logs": lambda args: self.client.get(args.task).output(args.attempt),
            "cancel": lambda args: magic_actions.cancel(self.client, args.tasks),
            "retry": lambda args: magic_actions.retry(self.client, args.tasks),
            "groups": lambda args: self.client.groups(),
            "attach": lambda args: magic_actions.attach(self.client, args.name),
            "schedules": lambda args: self.client.schedules(),
            "connect": self._connect,
        }

    def _up(self, args: argparse.Namespace) -> Any:
        return magic_actions.up(self.client, **worker_options(args))

    def _restart(self, args: argparse.Namespace) -> Any:
        magic_actions.down(self.client, quiet=True)
        return self._up(args)

    def _tasks(self, args: argparse.Namespace) -> Any:
        return self.client.tasks(
            state=args.state, queue=args.queue, type=args.type, name=args.name, limit=args.limit
        )

    def _connect(self, args: argparse.Namespace) -> Any:
        from nbqueue.client.client import connect

        self._client = connect(args.url)
        return self._client


def load(shell: Any) -> None:
    """Register the magic with ``shell``, once."""
    if getattr(shell, "_nbqueue_magics", None) is not None:
        return
    magics = NbqueueMagics(shell)

    def nbqueue(line: str) -> Any:
        return magics.run(line)

    nbqueue.__doc__ = _PARSER.format_help()
    shell.register_magic_function(nbqueue, "line", "nbqueue")
    matcher = _make_matcher(magics)
    shell.Completer.custom_matchers.append(matcher)
    shell.input_transformers_cleanup.append(_ask_for_help)
    offer_names(shell)
    shell._nbqueue_magics = (magics, matcher)
    register_magic(magics.store_url)


def unload(shell: Any) -> None:
    """Remove the magic from ``shell``."""
    loaded = getattr(shell, "_nbqueue_magics", None)
    if loaded is None:
        return
    _, matcher = loaded
    if matcher in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(matcher)
    if _ask_for_help in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(_ask_for_help)
    matcher = getattr(shell, "_nbqueue_names", None)
    if matcher in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(matcher)
    shell._nbqueue_names = None
    shell.magics_manager.magics["line"].pop("nbqueue", None)
    shell._nbqueue_magics = None
    unregister_magic()


_HELP = re.compile(r"^(\s*%nbqueue\s+[^\s?].*?)\s*\?{1,2}\s*$", re.DOTALL)


def _ask_for_help(lines: list[str]) -> list[str]:
    """Turn ``%nbqueue up?`` into ``%nbqueue up --help``.

    IPython itself would look for an object named ``up``.
    """
    found = _HELP.match("".join(lines))
    return lines if found is None else [f"{found[1]} --help\n"]


def _make_matcher(magics: NbqueueMagics) -> Any:
    from IPython.core.completer import SimpleCompletion, context_matcher

    def complete(context: Any) -> dict[str, Any]:
        before = context.line_with_cursor[: context.cursor_position]
        if not before.lstrip().startswith("%nbqueue"):
            return {"completions": []}
        words = completions(_PARSER, before.lstrip(), magics)
        token = context.token
        matching = [SimpleCompletion(word) for word in words if word.startswith(token)]
        return {"completions": matching, "suppress": True, "matched_fragment": token}

    return context_matcher(identifier="nbqueue.magic")(complete)
