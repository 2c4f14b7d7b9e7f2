"""``nbqueue queue`` and ``nbqueue task``: show and change queues and tasks."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from nbqueue.cli.parameters import COUNT, SPAN, Choice, url_option
from nbqueue.cli.text_output import print_table, say
from nbqueue.clock import to_ms
from nbqueue.durations import format_duration
from nbqueue.errors import QueueNotEmpty, QueueNotFound, UsageError
from nbqueue.wire.states import meant_state

if TYPE_CHECKING:
    from nbqueue.broker.reads.models import QueueInfo, TaskInfo
    from nbqueue.client.inspection.inspector import Inspector
    from nbqueue.client.inspection.task_filter import BulkResult
    from nbqueue.client.inspection.task_names import TaskPlace

_STATES = ("pending", "active", "scheduled", "retry", "archived", "completed", "aggregating")
_names = click.argument("names", nargs=-1, required=True, metavar="NAME...")


@contextmanager
def _inspector(url: str | None) -> Iterator[Inspector]:
    from nbqueue.client.client import connect

    client = connect(url or None)
    try:
        yield client.inspector
    except (UsageError, QueueNotEmpty) as error:
        error.args = (_as_options(str(error)),)
        raise
    finally:
        client.close()


def _as_options(text: str) -> str:
    """Replace the arguments of Python in the text of an error with options."""
    text = text.replace("force=True", "--force").replace("say queue=", "say -q")
    return re.sub(
        r"(?<![\w-])(state|group|since|until|type|error|delay|at)=(?=(\S?))", _option, text
    )


def _option(found: re.Match[str]) -> str:
    return f"--{found[1]}" + (" " if found[2] else "")


@click.group("queue")
def queue() -> None:
    """Show queues; pause, unpause and remove them."""


@queue.command("list")
@url_option
def list_queues(url: str | None) -> None:
    """Show all queues, with the number of their tasks."""
    with _inspector(url) as look:
        found = [each for name in look.queues() if (each := _found(look, name)) is not None]
    head = ("queue", *_STATES, "today", "failed", "waits", "")
    print_table(head, [_queue_row(each) for each in found], "There is no queue yet.")


def _queue_row(found: QueueInfo) -> list[str]:
    counts = [_number(found, state) for state in _STATES]
    waits = "" if found.latency is None else format_duration(found.latency)
    today = [_number(found, "processed"), _number(found, "failed")]
    notes = ["paused"] if found.paused else []
    notes += [found.fault] if found.fault else []
    return [found.queue, *counts, *today, waits, "; ".join(notes)]


def _found(look: Inspector, name: str) -> QueueInfo | None:
    try:
        return look.queue(name)
    except QueueNotFound:
        return None  # removed since its name was read


def _number(found: QueueInfo, name: str) -> str:
    return "?" if name in found.unknown else str(getattr(found, name))


@queue.command("inspect")
@_names
@url_option
def inspect_queue(names: tuple[str, ...], url: str | None) -> None:
    """Show all facts about queues."""
    with _inspector(url) as look:
        for name in names:
            found = look.queue(name, memory=True)
            fields = [field for field in found.__dataclass_fields__ if field != "unknown"]
            rows = [(f, "?" if f in found.unknown else getattr(found, f)) for f in fields]
            rows += [(f"group {group}", size) for group, size in look.groups(name).items()]
            print_table(("", ""), [[field, _text(value)] for field, value in rows])


@queue.command("history")
@_names
@click.option("-x", "--days", type=click.IntRange(1, 90), default=10, show_default=True)
@url_option
def show_history(names: tuple[str, ...], days: int, url: str | None) -> None:
    """Show the tasks that queues processed on each of the last days (UTC)."""
    with _inspector(url) as look:
        for name in names:
            rows = [
                [
                    name,
                    each.date.isoformat(),
                    str(each.processed),
                    str(each.failed),
                    f"{each.failed / each.processed:.1%}" if each.processed else "",
                ]
                for each in look.history(name, days)
            ]
            print_table(("queue", "day", "processed", "failed", "error rate"), rows)


@queue.command("pause")
@_names
@url_option
def pause(names: tuple[str, ...], url: str | None) -> None:
    """Stop fetching tasks of queues. Running tasks go on."""
    with _inspector(url) as look:
        known = set(look.queues())
        for name in names:
            was_new = look.pause(name)
            note = "" if name in known else " (there is no such queue yet)"
            say(f"{name}: {'paused' if was_new else 'was paused already'}{note}")


@queue.command("unpause")
@_names
@url_option
def unpause(names: tuple[str, ...], url: str | None) -> None:
    """Fetch tasks of paused queues again."""
    with _inspector(url) as look:
        known = set(look.queues())
        for name in names:
            was_paused = look.unpause(name)
            note = "" if name in known else " (there is no such queue yet)"
            say(f"{name}: {'goes on' if was_paused else 'was not paused'}{note}")


@queue.command("remove")
@_names
@click.option("-f", "--force", is_flag=True, help="Delete its tasks, too.")
@url_option
def remove(names: tuple[str, ...], force: bool, url: str | None) -> None:
    """Remove queues with all their data."""
    with _inspector(url) as look:
        for name in names:
            look.remove_queue(name, force=force)
            say(f"{name}: removed")


@click.group("task")
def task() -> None:
    """Show tasks; run, archive, delete, cancel and reschedule them.

    \b
    Choose tasks by ids, by names or by a filter:
      nbqueue task run 1f2e3d…
      nbqueue task cancel nightly
      nbqueue task run -q default -s archived --error "Connection refused"
    """


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("-q", "--queue", "queue_name", metavar="NAME", help="Their queue."),
        click.option(
            "-s", "--state", type=Choice(_STATES, question=meant_state), help="Their state."
        ),
        click.option(
            "--type", "type_name", metavar="TYPE", help="Their type, or email:* for a prefix."
        ),
        click.option("--error", metavar="TEXT", help="A part of their last error."),
        click.option("--since", type=SPAN, metavar="DURATION", help="Not longer ago than this."),
        click.option("--until", type=SPAN, metavar="DURATION", help="Longer ago than this."),
        click.option("-g", "--group", metavar="NAME", help="Their aggregation group."),
        url_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _where(words: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a filter as arguments of the inspector."""
    found = {"queue": words["queue_name"], "type": words["type_name"]}
    found |= {name: words[name] for name in ("state", "error", "since", "until", "group")}
    return {name: value for name, value in found.items() if value is not None}


@task.command("list")
@_filters
@click.option("--limit", type=COUNT, default=30, show_default=True)
def list_tasks(limit: int, **words: Any) -> None:
    """Show the tasks of a queue in a state."""
    where = _where(words)
    if "queue" not in where or "state" not in where:
        raise UsageError("choose tasks with both -q NAME and -s STATE")
    with _inspector(words["url"]) as look:
        found = list(look.tasks(limit=limit, **where))
    head = ("id", "type", "retried", "due", "last failed", "error or fault")
    print_table(head, [_task_row(each) for each in found], "There is no such task.")


def _task_row(found: TaskInfo) -> list[str]:
    due = found.next_process_at if found.state in ("scheduled", "retry") else None
    return [
        found.id,
        found.type,
        f"{found.retried}/{found.max_retry}",
        _text(due),
        _text(found.last_failed_at),
        " ".join((found.fault or found.error or "").split())[:60],
    ]


@task.command("inspect")
@click.argument("task_id", metavar="ID_OR_NAME")
@click.option("-q", "--queue", "queue_name", metavar="NAME", help="Its queue.")
@url_option
def inspect_task(task_id: str, queue_name: str | None, url: str | None) -> None:
    """Show all facts about a task, named by its id or its name."""
    with _inspector(url) as look:
        [place] = _resolved(look, [task_id], queue_name)
        found = look.task(*((place, queue_name) if isinstance(place, str) else place))
    rows = [(name, getattr(found, name)) for name in found.__dataclass_fields__]
    rows = [(name, _state(found) if name == "state" else value) for name, value in rows]
    print_table(("", ""), [[name, _text(value)] for name, value in rows])


def _state(found: TaskInfo) -> str:
    from nbqueue.views.format import task_state

    return task_state(found.state, found.error)


def _resolved(look: Inspector, texts: Sequence[str], queue: str | None) -> list[str | TaskPlace]:
    from nbqueue.client.inspection.task_names import resolve_names

    return resolve_names(look._session, texts, queue)


def _action(name: str, help_text: str, *options: Callable[..., Any]) -> None:
    """Add a command that changes tasks, chosen by ids, by names or by a filter."""

    def act(ids: tuple[str, ...], **words: Any) -> None:
        more = {key: value for key, value in words.items() if key in _MORE and value is not None}
        where = _where(words)
        if not ids and not where.keys() >= {"queue", "state"}:
            raise UsageError("choose tasks by ids or names, or with both -q NAME and -s STATE")
        with _inspector(words["url"]) as look:
            chosen = _resolved(look, ids, where.get("queue")) if ids else None
            result = getattr(look, name)(chosen, **more, **where)
        _report(result)

    command: Callable[..., Any] = _filters(act)
    for option in options:
        command = option(command)
    command = click.argument("ids", nargs=-1, metavar="[ID_OR_NAME...]")(command)
    task.command(name, help=help_text)(command)


def _report(result: BulkResult) -> None:
    say(repr(result)[1:-1])
    for task_id, reason in result.refused.items():
        say(f"{task_id} {reason}", err=True)
    if result.refused:
        sys.exit(1)


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time such as 2030-01-31T08:00+01:00") from None
    try:
        return found if found.tzinfo is not None else found.astimezone()
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} is too far away") from None


_MORE = ("reset", "keep_lock", "delay", "at")
_keep_lock = click.option("--keep-lock", is_flag=True, help="Keep their unique locks.")
_action(
    "run",
    "Make tasks pending: they run in turn.",
    click.option("--reset", is_flag=True, help="Reset the number of their retries."),
)
_action("archive", "Archive tasks: they stay until they are run by hand.", _keep_lock)
_action("delete", "Delete tasks that are not running.", _keep_lock)
_action("cancel", "Cancel tasks, also running ones.")
_action(
    "reschedule",
    "Run tasks at another time.",
    click.option("--delay", type=SPAN, metavar="DURATION", help="After this time."),
    click.option(
        "--at", callback=_moment, metavar="TIME", help="At this time: 2030-01-31T08:00+01:00."
    ),
)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        from nbqueue.views.format import zoned_time

        return zoned_time(to_ms(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        text = value[:200].decode("utf-8", "replace")
        return text if text.isprintable() else f"{len(value)} bytes"
    return str(value)
