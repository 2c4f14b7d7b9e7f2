"""The arguments of ``%nbqueue``: invalid ones print the usage."""

from __future__ import annotations

import argparse
import os
import shlex
from typing import Any, NoReturn

from nbqueue.client.inspection.task_filter import STATES
from nbqueue.durations import parse_duration
from nbqueue.errors import UsageError
from nbqueue.names import did_you_mean, known_names
from nbqueue.wire.states import unknown_state
from nbqueue.worker.settings import EXECUTORS, WorkerOptions


class _Parser(argparse.ArgumentParser):
    """A parser that raises an error where argparse would end the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\n{self.format_usage().strip()}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise HelpWanted(message or self.format_help())

    def print_help(self, file: Any = None) -> None:
        raise HelpWanted(self.format_help())


class HelpWanted(Exception):
    """The user asked for help; the message is its text."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(prog="%nbqueue", description="Workers and tasks, from a notebook.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def add(name: str, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=help)

    _add_up(add("up", "start workers here, unless some run"))
    add("down", "end the workers that were started here")
    _add_up(add("restart", "end the workers that were started here, and start new ones"))
    add("status", "the store, its workers and its queues")
    panel = add("panel", "the panel: queues, tasks, workers, schedules")
    panel.add_argument("--read-only", action="store_true", help="without actions")
    tasks = add("tasks", "tasks as a DataFrame")
    tasks.add_argument("--state", type=_state, help="only those in this state")
    tasks.add_argument("--queue", help="only those of this queue")
    tasks.add_argument("--type", help="only those of this type")
    tasks.add_argument("--name", help="only the newest of this name, or those of this group")
    tasks.add_argument("--limit", type=_count, default=100, help="at most so many [100]")
    add("groups", "task groups as a DataFrame: who started them, how many tasks are done or failed")
    logs = add("logs", "what a task printed and displayed")
    logs.add_argument("task", help="its id or its name")
    logs.add_argument("--attempt", type=_count, help="of this attempt; of the last one")
    for name, help in (("cancel", "cancel tasks"), ("retry", "run tasks again that failed")):
        add(name, help).add_argument("tasks", nargs="+", help="ids or names, also of groups")
    attach = add("attach", "the handle of a task or a group, live; also by its name")
    attach.add_argument("name", help="its id or its name")
    add("schedules", "what runs when")
    add("connect", "use another store from now on").add_argument("url", help="redis://… and others")
    return parser


def _add_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-n",
        dest="concurrency",
        metavar="N",
        type=_count,
        help="how many tasks run at once [one for each CPU]",
    )
    parser.add_argument(
        "-q", "--queues", default="default", help="names, each with =WEIGHT if need be, and commas"
    )
    parser.add_argument(
        "--executor", type=_executor, choices=EXECUTORS, default=WorkerOptions.executor
    )
    life = parser.add_mutually_exclusive_group()
    life.add_argument("--detach", action="store_true", help="outlive the kernel (so it is anyway)")
    life.add_argument("--with-kernel", action="store_true", help="end with this kernel")
    parser.add_argument(
        "--idle",
        dest="idle_timeout",
        metavar="IDLE",
        type=_span,
        help="end after so long without a task, as in 30m",
    )


def worker_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `WorkerOptions` that ``%nbqueue up`` was given."""
    return {
        "queues": parse_queues(arguments.queues),
        "concurrency": arguments.concurrency,
        "executor": arguments.executor,
        "idle_timeout": arguments.idle_timeout,
        "owner": os.getpid() if arguments.with_kernel else None,
    }


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _state(text: str) -> str:
    if text not in STATES:
        raise argparse.ArgumentTypeError(unknown_state(text, STATES))
    return text


def _executor(text: str) -> str:
    if text not in EXECUTORS:
        raise argparse.ArgumentTypeError(f"{text!r} is no executor{known_names(text, EXECUTORS)}")
    return text


def _span(text: str) -> float:
    try:
        return parse_duration(text, "--idle")
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_queues(text: str) -> dict[str, int]:
    """Read queues such as ``"critical=6,default"``; return their weights. Raises `UsageError`."""
    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        if not name or (weight and not weight.isdigit()):
            raise UsageError(f"--queues {text!r} must be names such as critical=6,default")
        found[name] = int(weight or 1)
    return found


def parse_line(parser: argparse.ArgumentParser, line: str) -> argparse.Namespace:
    """Parse the words of a line. Raises `UsageError`, with the usage of its command."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"{line!r} cannot be read: {error}") from None
    commands = command_names(parser)
    named = next((word for word in words if not word.startswith("-")), None)
    if named is not None and named not in commands:
        raise UsageError(f"{named!r} is no command{known_names(named, sorted(commands))}")
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        command = commands.get(arguments.command or "", parser)
        options = [word for action in command._actions for word in action.option_strings]
        question = did_you_mean(unknown[0].partition("=")[0], options)
        command.error(f"{unknown[0]!r} is unknown{f', {question}' if question else ''}")
    return arguments


def command_names(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands, by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}
