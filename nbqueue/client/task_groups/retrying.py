"""Running the failed tasks of a group again."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nbqueue.broker.commands.task_groups import (
    FAILED,
    MOST_READ,
    member_states,
    record_task_group,
)
from nbqueue.client import inspection
from nbqueue.errors import StoreError
from nbqueue.wire.task_groups.member_runs import MemberRuns, runs_of

if TYPE_CHECKING:
    from nbqueue.client.futures.group import TaskGroup
    from nbqueue.client.inspection import BulkResult
    from nbqueue.client.session import Session


def retry_failed(group: TaskGroup[Any]) -> BulkResult:
    """Run the failed tasks of a group again; the group waits for them again."""
    ids = group.ids
    members = MemberRuns(runs_of(ids) if ids else ())
    result = retry_members(group._session, group.id, group.queue, members)
    group._reopen(result.done)
    return result


def retry_members(session: Session, group_id: str, queue: str, members: MemberRuns) -> BulkResult:
    """Run the members again that failed and were not cancelled."""
    failed: list[str] = []
    for start in range(0, len(members), MOST_READ):
        letters = session.broker.run(member_states(queue, members.part(start, start + MOST_READ)))
        failed += [
            members.id_at(start + at) for at, letter in enumerate(letters) if letter == FAILED
        ]
    if not failed:
        return inspection.BulkResult("retry")
    result = inspection.BulkActions(session).retry(failed, queue=queue)
    # Its counts are no longer final. Without the note they are read again a minute later.
    with suppress(StoreError):
        session.broker.run(record_task_group(group_id, {"counts": ""}))
    return result
