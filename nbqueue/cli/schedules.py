"""``nbqueue schedule``: list schedules; pause, resume, run and remove one; show its history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from nbqueue.errors import ScheduleNotFound, UsageError

if TYPE_CHECKING:
    from nbqueue.client.schedules import Schedule

_url_option = click.option(
    "--url",
    envvar="NBQUEUE_URL",
    metavar="URL",
    help="The store. [default: NBQUEUE_URL, else the embedded store of this project]",
)
_queue_option = click.option("-q", "--queue", metavar="NAME", help="Its queue. [default: any]")


@click.group("schedule")
def schedule() -> None:
    """Look at schedules, and pause, run or remove them."""


@schedule.command("list")
@_queue_option
@_url_option
def list_all(queue: str | None, url: str | None) -> None:
    """List the schedules, each with when it runs next and last ran."""
    import nbqueue

    with nbqueue.connect(url or None) as client:
        rows = client.inspector.schedules(queue).rows()
    if not rows:
        click.echo("There are no schedules.")
        return
    names = ("ID", "QUEUE", "SPEC", "ZONE", "NEXT", "LAST", "TYPE")
    lines = [
        (
            row["id"], row["queue"], row["spec"], row["tz"],
            "paused" if row["paused"] else _time(row["next_at"]),
            _time(row["prev_at"]), row["type"],
        )
        for row in rows
    ]  # fmt: skip
    _table(names, lines)


@schedule.command("pause")
@click.argument("schedule_id", metavar="ID")
@_queue_option
@_url_option
def pause(schedule_id: str, queue: str | None, url: str | None) -> None:
    """Let its times pass without a run."""
    with _found(schedule_id, queue, url) as found:
        found.pause()
    click.echo(f"Paused {schedule_id}.")


@schedule.command("resume")
@click.argument("schedule_id", metavar="ID")
@_queue_option
@_url_option
def resume(schedule_id: str, queue: str | None, url: str | None) -> None:
    """Run it again from its next time on."""
    with _found(schedule_id, queue, url) as found:
        found.resume()
        following = _time(found.next_at)
    click.echo(f"Resumed {schedule_id}; it runs next at {following}.")


@schedule.command("run")
@click.argument("schedule_id", metavar="ID")
@_queue_option
@_url_option
def run(schedule_id: str, queue: str | None, url: str | None) -> None:
    """Run it once more now, paused or not. Prints the id of the task; waits for nothing."""
    with _found(schedule_id, queue, url) as found:
        click.echo(found.run_now().id)


@schedule.command("remove")
@click.argument("schedule_id", metavar="ID")
@_queue_option
@_url_option
def remove(schedule_id: str, queue: str | None, url: str | None) -> None:
    """Forget it with its history. Its tasks go on."""
    with _found(schedule_id, queue, url) as found:
        found.remove()
    click.echo(f"Removed {schedule_id}.")


@schedule.command("history")
@click.argument("schedule_id", metavar="ID")
@click.option("-n", "limit", type=click.IntRange(min=1), default=20, show_default=True)
@_queue_option
@_url_option
def history(schedule_id: str, limit: int, queue: str | None, url: str | None) -> None:
    """Show what became of its last times, newest first."""
    with _found(schedule_id, queue, url) as found:
        entries = found.history(limit)
    lines = [
        (
            _time(each["at"]),
            _time(each["due"]) if each["due"] else "by hand",
            each["outcome"],
            each["task_id"] or each["detail"],
        )
        for each in entries
    ]
    _table(("AT", "DUE", "OUTCOME", "TASK OR REASON"), lines)


@contextmanager
def _found(schedule_id: str, queue: str | None, url: str | None) -> Iterator[Schedule]:
    import nbqueue

    client = nbqueue.connect(url or None)
    try:
        handles = [each for each in client.inspector.schedules(queue) if each.id == schedule_id]
        if not handles:
            raise ScheduleNotFound(
                f"there is no schedule {schedule_id!r}: `nbqueue schedule list` shows all"
            )
        if len(handles) > 1:
            names = ", ".join(each.queue for each in handles)
            raise UsageError(f"several queues have a schedule {schedule_id!r}: say -q ({names})")
        yield handles[0]
    finally:
        # Not its end as a context manager, which would wait for the tasks.
        client.close()


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}Z"


def _table(names: tuple[str, ...], lines: list[Any]) -> None:
    widths = [max(len(line[i]) for line in (names, *lines)) for i in range(len(names))]
    for line in (names, *lines):
        cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
