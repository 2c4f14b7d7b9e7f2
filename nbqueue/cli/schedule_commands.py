"""``nbqueue schedule``: list schedules; pause, resume, run and remove one; show its history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

import click

from nbqueue.cli.parameters import COUNT, url_option
from nbqueue.cli.text_output import print_columns, say
from nbqueue.clock import to_ms
from nbqueue.errors import ScheduleNotFound, UsageError
from nbqueue.names import did_you_mean

if TYPE_CHECKING:
    from nbqueue.client.schedules.schedule import Schedule

_queue_option = click.option("-q", "--queue", metavar="NAME", help="Its queue. [default: any]")


@click.group("schedule")
def schedule() -> None:
    """Show schedules; pause, run and remove them."""


def _for_one(
    name: str, *options: Callable[..., Any]
) -> Callable[[Callable[..., None]], click.Command]:
    """Return the decorator of a subcommand that takes the schedule, found by its id."""

    def make(act: Callable[..., None]) -> click.Command:
        def command(schedule_id: str, queue: str | None, url: str | None, **words: Any) -> None:
            with _found(schedule_id, queue, url) as found:
                act(found, **words)

        command.__doc__ = act.__doc__
        for option in (
            url_option, _queue_option, *options, click.argument("schedule_id", metavar="ID")
        ):  # fmt: skip
            command = option(command)
        return schedule.command(name)(command)

    return make


@schedule.command("list")
@_queue_option
@url_option
def list_all(queue: str | None, url: str | None) -> None:
    """List the schedules with their next and last runs."""
    import nbqueue

    with nbqueue.connect(url or None) as client:
        rows = client.inspector.schedules(queue).rows()
    if not rows:
        click.echo("There are no schedules.")
        return
    names = ("ID", "QUEUE", "SPEC", "ZONE", "NEXT", "LAST", "TYPE")
    lines = [
        (
            row["id"], row["queue"], row["spec"] or "?", row["tz"] or "?",
            "paused" if row["paused"] else _time(row["next_at"], _zone(row["spec"], row["tz"])),
            _time(row["prev_at"], _zone(row["spec"], row["tz"])),
            row["type"] or row["fault"] or "?",
        )
        for row in rows
    ]  # fmt: skip
    print_columns(names, lines)


@_for_one("pause")
def pause(found: Schedule) -> None:
    """Skip its runs until it is resumed."""
    found.pause()
    say(f"Paused {found.id}.")


@_for_one("resume")
def resume(found: Schedule) -> None:
    """Run it again, from its next time."""
    found.resume()
    next_at = _time(found.next_at, _zone(found.spec, found.tz))
    say(f"Resumed {found.id}; it runs next at {next_at}.")


@_for_one("run")
def run(found: Schedule) -> None:
    """Run it once now, even if it is paused. Prints the id of the task, and does not wait."""
    say(found.run_now().id)


@_for_one("remove")
def remove(found: Schedule) -> None:
    """Remove it with its history. Its tasks go on."""
    found.remove()
    say(f"Removed {found.id}.")


@_for_one(
    "history",
    click.option("-n", "limit", type=COUNT, default=20, show_default=True),
)
def history(found: Schedule, limit: int) -> None:
    """Show its last runs, newest first."""
    zone = _zone(found.spec, found.tz)
    lines = [
        (
            _time(each["at"], zone),
            _time(each["due"], zone) if each["due"] else "by hand",
            each["outcome"],
            each["task_id"] or each["detail"],
        )
        for each in found.history(limit)
    ]
    print_columns(("AT", "DUE", "OUTCOME", "TASK OR REASON"), lines)


@contextmanager
def _found(schedule_id: str, queue: str | None, url: str | None) -> Iterator[Schedule]:
    import nbqueue

    client = nbqueue.connect(url or None)
    try:
        known = client.inspector.schedules(queue)
        handles = [each for each in known if each.id == schedule_id]
        if not handles:
            hint = did_you_mean(schedule_id, [each.id for each in known])
            raise ScheduleNotFound(
                f"there is no schedule {schedule_id!r}: "
                f"{hint or '`nbqueue schedule list` shows all'}"
            )
        if len(handles) > 1:
            names = ", ".join(each.queue for each in handles)
            raise UsageError(f"several queues have a schedule {schedule_id!r}: add -q ({names})")
        yield handles[0]
    finally:
        # Leaving it as a context manager would wait for the tasks.
        client.close()


def _zone(spec: object, tz: object) -> tzinfo | None:
    from nbqueue.cron import shown_zone

    return shown_zone(spec, tz)


def _time(moment: datetime | None, zone: tzinfo | None) -> str:
    """Return a time in the zone of its schedule, or in local time if that is unknown."""
    from nbqueue.views.format import zoned_time

    return "-" if moment is None else zoned_time(to_ms(moment), zone)
