"""``%nbqueue``: reads what was said and hands it on. What it does is elsewhere."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from nbqueue.errors import NbqueueError, UsageError
from nbqueue.notebook import magic_actions
from nbqueue.notebook.magic_arguments import (
    HelpWanted,
    command_names,
    make_parser,
    split_line,
    worker_options,
)

if TYPE_CHECKING:
    from nbqueue.client.client import Client

_PARSER = make_parser()


class NbqueueMagics:
    """The magic of one shell, with the client that it uses."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The client: of the last ``connect``, else the notebook's ``q``, else a new one."""
        from nbqueue.client.client import Client, connect

        if self._client is None or not self._client._session.is_open:
            named = self._shell.user_ns.get("q")
            self._client = named if isinstance(named, Client) else connect()
        return self._client

    def run(self, line: str) -> Any:
        """Run one line; what it returns is what the cell shows."""
        from IPython.core.error import UsageError as ShownUsageError

        try:
            said = _PARSER.parse_args(split_line(line))
            return self._commands()[said.command or "status"](said)
        except HelpWanted as wanted:
            print(wanted)  # noqa: T201 (help is printed)
        except UsageError as error:
            raise ShownUsageError(str(error)) from None
        except NbqueueError as error:
            raise ShownUsageError(f"{type(error).__name__}: {error}") from None
        return None

    def _commands(self) -> dict[str, Any]:
        return {
            "up": self._up,
            "down": lambda said: magic_actions.down(self.client),
            "restart": self._restart,
            "status": lambda said: magic_actions.status(self.client),
            "panel": lambda said: self.client.panel(read_only=said.read_only),
            "tasks": self._tasks,
            "logs": lambda said: self.client.get(said.task).output(said.attempt),
            "cancel": lambda said: magic_actions.cancel(self.client, said.tasks),
            "retry": lambda said: magic_actions.retry(self.client, said.tasks),
            "attach": lambda said: self.client.get(said.task),
            "schedules": lambda said: self.client.schedules(),
            "connect": self._connect,
        }

    def _up(self, said: argparse.Namespace) -> Any:
        return magic_actions.up(self.client, **worker_options(said))

    def _restart(self, said: argparse.Namespace) -> Any:
        magic_actions.down(self.client, quiet=True)
        return self._up(said)

    def _tasks(self, said: argparse.Namespace) -> Any:
        return self.client.tasks(
            state=said.state, queue=said.queue, type=said.type, limit=said.limit
        )

    def _connect(self, said: argparse.Namespace) -> Any:
        from nbqueue.client.client import connect

        self._client = connect(said.url)
        return self._client

    # --- Completion ----------------------------------------------------------------------------

    def complete(self, before: str) -> list[str]:
        """The words that may stand where ``before`` (all of the line up to there) ends."""
        words = before.split()
        commands = command_names(_PARSER)
        is_first = len(words) < 2 or (len(words) == 2 and not before.endswith(" "))
        if is_first:
            return sorted(commands)
        parser = commands.get(words[1])
        if parser is None:
            return []
        found = [word for action in parser._actions for word in action.option_strings]
        if words[1] in ("logs", "cancel", "retry", "attach"):
            found += magic_actions.recent_names(self.client)
        return found


def load(shell: Any) -> None:
    """Give ``shell`` the magic, unless it has it."""
    if getattr(shell, "_nbqueue_magics", None) is not None:
        return
    magics = NbqueueMagics(shell)

    def nbqueue(line: str) -> Any:
        return magics.run(line)

    nbqueue.__doc__ = _PARSER.format_help()
    shell.register_magic_function(nbqueue, "line", "nbqueue")
    matcher = _make_matcher(magics)
    shell.Completer.custom_matchers.append(matcher)
    shell._nbqueue_magics = (magics, matcher)


def unload(shell: Any) -> None:
    """Take it away again."""
    loaded = getattr(shell, "_nbqueue_magics", None)
    if loaded is None:
        return
    _, matcher = loaded
    if matcher in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(matcher)
    shell.magics_manager.magics["line"].pop("nbqueue", None)
    shell._nbqueue_magics = None


def _make_matcher(magics: NbqueueMagics) -> Any:
    from IPython.core.completer import SimpleCompletion, context_matcher

    def complete(context: Any) -> dict[str, Any]:
        before = context.line_with_cursor[: context.cursor_position]
        if not before.lstrip().startswith("%nbqueue"):
            return {"completions": []}
        try:
            words = magics.complete(before.lstrip())
        except NbqueueError:
            words = []  # no store, no names: not an error of who presses Tab
        token = context.token
        matching = [SimpleCompletion(word) for word in words if word.startswith(token)]
        return {"completions": matching, "suppress": True, "matched_fragment": token}

    return context_matcher(identifier="nbqueue.magic")(complete)
