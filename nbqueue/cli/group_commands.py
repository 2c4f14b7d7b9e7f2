"""``nbqueue groups``: list the task groups of a store."""

from __future__ import annotations

import click

from nbqueue.cli.parameters import COUNT, url_option
from nbqueue.cli.text_output import print_table


@click.command()
@click.option("--limit", type=COUNT, default=30, show_default=True, help="The newest so many.")
@url_option
def groups(limit: int, url: str | None) -> None:
    """List the task groups, the newest first: who made them, and how far they are.

    A group is the tasks of one q.map(…); q.group("NAME") returns it in Python.
    """
    from nbqueue.client.client import connect
    from nbqueue.client.task_groups.counting import list_groups
    from nbqueue.views.format import zoned_time

    client = connect(url or None)
    try:
        found = list_groups(client._session)
    finally:
        client.close()
    rows = [
        [
            each.name or "",
            each.id,
            each.type,
            each.queue,
            f"{'about ' if each.is_estimated else ''}{each.done:,} of {each.total:,}",
            f"{each.failed:,}",
            f"{each.cancelled:,}",
            zoned_time(each.started_ms),
            each.by,
            "" if each.is_complete else "not complete",
        ]
        for each in reversed(found[-limit:])
    ]
    head = ("name", "id", "function", "queue", "done", "failed", "cancelled", "began", "by", "")
    print_table(head, rows, "There is no task group yet.")
